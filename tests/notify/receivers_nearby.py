"""An SMTP server on this machine that keeps what it gets."""

import socket
from contextlib import contextmanager
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Mailbox:
    def __init__(self) -> None:
        self.letters: list[tuple[list[str], str]] = []

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options) -> str:
        if address.startswith("nobody@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:
        self.letters.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


def _may_log_in(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and data.password == b"right"
    return AuthResult(success=right, handled=right)


@contextmanager
def mail_server(with_login=False):
    mailbox, asked = Mailbox(), {"auth_required": True, "auth_require_tls": False}
    login: dict[str, Any] = {"authenticator": _may_log_in, **asked} if with_login else {}
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **login)
    controller.start()
    try:
        yield mailbox, controller.port
    finally:
        controller.stop()
