"""The appliance's REST API as qemu/test needs it: log in, ask, upload a tarball, wait for the first answer.

The appliance's certificate is its own, so it is not verified but remembered: it must stay the same from one request
to the next, unless the caller forgets it (a factory reset makes a new one).
"""

import hashlib
import http.client
import json
import os
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Iterator

# Parts of an upload; small enough for progress and for cutting the power in the middle.
_PART = 1 << 18


class ApiError(Exception):
    """The API answered with an error status, or not in the way that its contract says."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class Unanswered(Exception):
    """No answer: nothing listens, the connection broke, or the time is over."""


class Api:
    """The API on `port` of this host."""

    def __init__(self, port: int, timeout: float = 30):
        self._port = port
        self._timeout = timeout
        self._token: str | None = None
        self.certificate: str | None = None  # SHA-256 of the server's certificate, in hexadecimal

    def forget(self) -> None:
        """Forgets the certificate and the login."""
        self.certificate = None
        self._token = None

    def log_in(self, user: str, password: str) -> None:
        """Logs in; the requests that follow carry the token."""
        self._token = None
        answer = self.post("/auth/login", {"username": user, "password": password})
        token = answer.get("access_token")
        if not token:
            raise ApiError(f"the login of {user} gave no token")
        self._token = token

    def get(self, path: str) -> Any:
        """GET, the JSON of a 2xx answer."""
        return self.request("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        """POST, the JSON of a 2xx answer."""
        return self.request("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        """PUT, the JSON of a 2xx answer."""
        return self.request("PUT", path, body)

    def request(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> Any:
        """Any request with a JSON body or none; an error status is an `ApiError` with the API's own words."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        return _parse(method, path, *self._exchange(method, path, data, headers, timeout or self._timeout))

    def upload(self, path: str, file: Path, fields: dict[str, str], timeout: float) -> Any:
        """POST of multipart/form-data: the file as `tarball`, then the fields."""
        boundary = f"----aifw-{hashlib.sha256(os.urandom(16)).hexdigest()[:24]}"
        head = (f"--{boundary}\r\nContent-Disposition: form-data; name=\"tarball\"; filename=\"{file.name}\"\r\n"
                "Content-Type: application/octet-stream\r\n\r\n").encode()
        tail = "".join(f"\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}"
                       for name, value in fields.items()).encode() + f"\r\n--{boundary}--\r\n".encode()

        def parts() -> Iterator[bytes]:
            yield head
            with file.open("rb") as source:
                while part := source.read(_PART):
                    yield part
            yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + file.stat().st_size + len(tail)),
        }
        return _parse("POST", path, *self._exchange("POST", path, parts(), headers, timeout))

    def answers(self) -> bool:
        """Whether the API answers at all: any status counts."""
        try:
            self._exchange("GET", "/status", None, {}, timeout=5)
        except Unanswered:
            return False
        return True

    def wait(self, timeout: float, pause: float = 0.1) -> float:
        """Waits for the first answer; returns the time (monotonic) at which it came."""
        deadline = time.monotonic() + timeout
        while not self.answers():
            if time.monotonic() > deadline:
                raise Unanswered(f"the API does not answer within {timeout:.0f} s")
            # QEMU accepts at once and hangs up when the appliance does not answer: nothing to wait on but time.
            time.sleep(pause)
        return time.monotonic()

    def _exchange(self, method: str, path: str, body: Any, headers: dict[str, str], timeout: float) -> tuple[int, bytes]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the appliance's own certificate: remembered instead, see above
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=timeout, context=context)
        if self._token:
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        try:
            connection.connect()
            self._remember(connection.sock)
            connection.request(method, "/api/v1" + path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(f"{method} {path}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _remember(self, connected: socket.socket | None) -> None:
        certificate = connected.getpeercert(binary_form=True) if isinstance(connected, ssl.SSLSocket) else None
        if not certificate:
            raise ApiError("the API has no certificate")
        found = hashlib.sha256(certificate).hexdigest()
        if self.certificate not in (None, found):
            raise ApiError("the API's certificate is not the one of before")
        self.certificate = found


def _parse(method: str, path: str, status: int, body: bytes) -> Any:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise ApiError(f"{method} {path}: {status}, and the body is not JSON: {body[:200]!r}", status) from error
    if not 200 <= status < 300:
        said = value.get("error", value) if isinstance(value, dict) else value
        raise ApiError(f"{method} {path}: {status}: {said}", status)
    return value
