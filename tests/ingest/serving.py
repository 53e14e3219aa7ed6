"""An https server on the loopback that gives recorded answers, with a certificate of its own making."""

import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answers = dict[str, bytes]


def make_certificate(path: Path) -> Path:
    """A PEM file with a key and a certificate for 127.0.0.1, which is its own authority."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def secured(listening: socket.socket, certificate: Path) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context.wrap_socket(listening, server_side=True)


@contextmanager
def serving(answers: Answers, certificate: Path | None) -> Iterator[str]:
    """The server's URL. An answer that begins with `Location: ` is a redirection there; no certificate: plain http."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            if body and body.startswith(b"Location: "):
                self.send_response(302)
                self.send_header("Location", body.removeprefix(b"Location: ").decode())
            else:
                self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            server.socket = secured(server.socket, certificate)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def speaking(certificate: Path, speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that takes one connection and says what `speak` says."""

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            speak(connection)

    with secured(socket.create_server(("127.0.0.1", 0)), certificate) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.getsockname()[1]}/mnist.arff"
        finally:
            thread.join()


def reset(connection: socket.socket) -> None:
    """Closing with no time to linger sends a reset (socket(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
