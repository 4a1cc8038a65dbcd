"""The receivers: a file, a web address, a mailbox. Each raises what goes wrong with it."""

from __future__ import annotations

import json
import os
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from flows.notify.event import Event
from flows.notify.settings import EmailConfig, WebhookConfig
from mno.core.errors import MnoError


def append_line(path: str, event: Event, timeout: float) -> None:
    """Append an event to a file as one line of JSON; several processes may do so at once."""
    line = json.dumps(event.to_dict(), ensure_ascii=False) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())  # at once: appended lines do not mix
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def post(webhook: WebhookConfig, event: Event, timeout: float) -> None:
    """Send an event to a web address as JSON.

    Besides the event's own keys there is `text` as chat services show it: title and all.

    Raises:
        MnoError: The answer is not a success (2xx).
    """
    import httpx

    content = {**event.to_dict(), "text": f"{event.title}\n{event.to_text()}"}
    answer = httpx.post(webhook.url, json=content, headers=webhook.headers, timeout=timeout)
    if not answer.is_success:
        raise MnoError(f"the server answered {answer.status_code}: {answer.text[:80]}")


def send_mail(email: EmailConfig, event: Event, timeout: float) -> None:
    """Send an event as plain text to all recipients.

    Raises:
        MnoError: The server refused some of them.
    """
    message = EmailMessage()
    message["Subject"] = f"[mno] {' '.join(event.title.split())}"
    message["From"], message["To"] = email.sender, ", ".join(email.recipients)
    message["Date"], message["Message-ID"] = formatdate(localtime=True), make_msgid(domain="mno")
    message.set_content(event.to_text())
    context = ssl.create_default_context()
    if email.security == "tls":
        server = smtplib.SMTP_SSL(email.host, email.port, timeout=timeout, context=context)
    else:
        server = smtplib.SMTP(email.host, email.port, timeout=timeout)
    with server:
        if email.security == "starttls":
            server.starttls(context=context)
        if email.username is not None:
            server.login(email.username, email.password or "")
        refused = server.send_message(message)
    if refused:
        raise MnoError(f"the server refused {', '.join(refused)}")
