"""What a Prefect worker needs of digitrec before it has the checkout in which the flows lie, or without it."""
