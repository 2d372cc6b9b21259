"""Tests of the API's client against a server of the same form: TLS with a certificate of its own, JSON bodies."""

import email
import hashlib
import http.server
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import machine  # noqa: E402
from api import Api, ApiError, Unanswered  # noqa: E402


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the appliance does; tells what it was sent."""

    def log_message(self, *_):
        """Says nothing."""

    def answer(self, status: int, body: object) -> None:
        """A JSON answer."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):  # noqa: N802
        """What token came."""
        self.answer(200, {"path": self.path, "authorization": self.headers.get("Authorization")})

    def do_POST(self):  # noqa: N802
        """A login, an upload, or an echo."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/v1/auth/login":
            right = json.loads(body)["password"] == "right"
            self.answer(200 if right else 401, {"access_token": "t0"} if right else {"error": "wrong", "message": "wrong"})
        elif self.path == "/api/v1/upload":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
                     for part in email.message_from_bytes(head + body).get_payload()}
            self.answer(200, {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()})
        else:
            self.answer(200, {"echo": json.loads(body)})


@unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
class Client(unittest.TestCase):
    """The client."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="aifw-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.port = self.serve(0)
        self.api = Api(self.port)

    def serve(self, port: int) -> int:
        pem = self.directory / "server.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", "/CN=aifw", "-days", "1", "-keyout", pem, "-out", self.directory / "certificate.pem"],
                       check=True, stdin=subprocess.DEVNULL, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "certificate.pem", pem)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        return server.server_address[1]

    def test_a_login_gives_the_token_that_requests_carry(self):
        self.assertIsNone(self.api.get("/status")["authorization"])
        self.api.log_in("admin", "right")
        self.assertEqual(self.api.get("/status"), {"path": "/api/v1/status", "authorization": "Bearer t0"})
        self.assertEqual(self.api.post("/rules", {"label": "ü"}), {"echo": {"label": "ü"}})

    def test_an_error_status_is_told_with_the_apis_words(self):
        with self.assertRaisesRegex(ApiError, "POST /auth/login: 401: wrong") as raised:
            self.api.log_in("admin", "bad")
        self.assertEqual(raised.exception.status, 401)

    def test_an_upload_is_multipart_with_the_file_first(self):
        file = self.directory / "package.tar.xz"
        file.write_bytes(bytes(range(256)) * 5000)
        got = self.api.upload("/upload", file, {"sha256": "abc", "restart": "false"}, timeout=30)
        self.assertEqual(list(got), ["tarball", "sha256", "restart"])
        self.assertEqual(got["tarball"], hashlib.sha256(file.read_bytes()).hexdigest())
        self.assertEqual(got["sha256"], hashlib.sha256(b"abc").hexdigest())

    def test_another_certificate_is_refused_until_the_first_is_forgotten(self):
        self.api.get("/status")
        other = Api(self.serve(0))
        other.certificate = self.api.certificate
        with self.assertRaisesRegex(ApiError, "not the one of before"):
            other.get("/status")
        other.forget()
        other.get("/status")

    def test_no_answer_is_told(self):
        silent = Api(machine.free_port())
        self.assertFalse(silent.answers())
        with self.assertRaises(Unanswered):
            silent.wait(0.3)
        self.assertTrue(self.api.answers())
        self.api.wait(0.3)


if __name__ == "__main__":
    unittest.main()
