"""An SMTP server (aiosmtpd) for the tests: python3 smtp_server.py none|starttls|implicit [certificate.pem key.pem]

It listens on a free port of loopback, and prints one JSON object a line: first {"port": n}, then each mail that it took.
The user fw with the password marked-password may send; with a certificate only under TLS, and only this user. A recipient whose name is
later@... is refused for now (451), nobody@... for good (550).
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

mode = sys.argv[1]
context = None
if mode != "none":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[2], sys.argv[3])


def say(**what):
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 no such user"
        if address.startswith("later@"):
            return "451 greylisted"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        tls = session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None
        say(sender=envelope.mail_from, recipients=envelope.rcpt_tos, text=envelope.content.decode(), tls=tls,
            user=session.auth_data, hello=session.host_name)
        return "250 queued"


def authenticate(server, session, envelope, mechanism, data):
    right = (data.login, data.password) == (b"fw", b"marked-password")
    # A server that repeats what it was sent.
    text = None if right else "535 5.7.8 no: " + data.password.decode()
    return AuthResult(success=right, handled=right, auth_data="fw" if right else None, message=text)


def session():
    return SMTP(
        Handler(),
        hostname="localhost",
        authenticator=authenticate,
        auth_required=mode != "none",
        auth_require_tls=mode == "starttls",
        tls_context=context if mode == "starttls" else None,
        require_starttls=mode == "starttls",
    )


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if mode == "implicit" else None)
    say(port=server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(main())
