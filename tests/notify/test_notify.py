"""Events reach a file, a web server and a mailbox; receivers that are away break nothing."""

from __future__ import annotations

import email
import email.policy
import json
import time
from pathlib import Path

import pytest
from receivers_nearby import free_port, mail_server

from flows.notify import EmailConfig, Event, NotifyConfig, WebhookConfig, notify, read_settings
from mno.core.errors import InputError
from tests.support.answering import answering

EVENT = Event(
    "promotion",
    "mno-darcy version 2 is champion — now",
    "relative L2 0.01 against 0.02 of champion 1",
    "mno promote --history",
    {"difference": -0.01},
    "/plant/line",
)


def mail(port: int, **changes) -> EmailConfig:
    values = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "line@plant.test",
              "recipients": ["anna@plant.test", "ken@plant.test"], **changes}  # fmt: skip
    return EmailConfig(**values)


def test_all_receivers_get_what_happened_its_figures_and_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "told/events.jsonl"
    with answering() as web, mail_server() as (mailbox, port):
        hook = WebhookConfig(url=web.url, headers={"Authorization": "Bearer sesame"})
        settings = NotifyConfig(file=str(path), webhook=hook, email=mail(port))
        assert notify(settings, EVENT) == []
        assert notify(settings, EVENT) == []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [EVENT.to_dict()] * 2
    posted = json.loads(web.asked[0].body)
    assert posted["kind"] == "promotion"
    assert posted["figures"] == {"difference": -0.01}
    assert posted["next_command"] == "mno promote --history"
    assert posted["text"].startswith("mno-darcy version 2 is champion — now\nrelative L2")
    assert web.asked[0].headers["Authorization"] == "Bearer sesame"
    (first, letter), (second, _) = mailbox.letters[:2]
    assert first + second == ["anna@plant.test", "ken@plant.test"]
    message = email.message_from_string(letter, policy=email.policy.default)
    assert message["Subject"] == "[mno] mno-darcy version 2 is champion — now"
    text = message.get_content()
    for part in ("0.01 against 0.02", "difference: -0.01", "Next: mno promote --history"):
        assert part in text


def test_only_the_kinds_that_are_wanted_are_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    settings = NotifyConfig(file=str(path), events=["failure"])
    assert notify(settings, EVENT) == []
    assert not path.exists()
    assert notify(settings, Event("failure", "a", "b", "c")) == []
    assert notify(settings, Event("test", "a", "b", "c")) == []
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["failure", "test"]


def test_receivers_that_are_away_are_named_and_the_others_still_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    url = f"http://127.0.0.1:{free_port()}/"
    settings = NotifyConfig(file=str(path), webhook=WebhookConfig(url=url), email=mail(free_port()))
    webhook, mailed = notify(settings, EVENT)
    assert webhook.startswith("webhook: ") and "refused" in webhook
    assert mailed.startswith("email: ") and "refused" in mailed
    assert len(path.read_text().splitlines()) == 1


def test_a_receiver_that_does_not_answer_holds_nothing_up() -> None:
    with answering(delay=3.0) as web:
        settings = NotifyConfig(webhook=WebhookConfig(url=web.url), timeout=0.3)
        start = time.monotonic()
        (problem,) = notify(settings, EVENT)
        assert time.monotonic() - start < 2.0
    assert problem.startswith("webhook: ")
    assert "0.3 s" in problem or "timed out" in problem


def test_refusals_of_servers_are_told_with_their_reason() -> None:
    with answering(status=403) as web, mail_server(with_login=True) as (mailbox, port):
        wrong = mail(port, username="line", password="wrong")
        settings = NotifyConfig(webhook=WebhookConfig(url=web.url), email=wrong)
        webhook, mailed = notify(settings, EVENT)
        assert "403" in webhook
        assert "535" in mailed
        recipients = ["nobody@x.test", "ken@x.test"]
        right = mail(port, username="line", password="right", recipients=recipients)
        (refused,) = notify(NotifyConfig(email=right), EVENT)
        assert refused.startswith("email: ") and "nobody@x.test" in refused
        assert [to for to, _ in mailbox.letters] == [["ken@x.test"]]


def test_a_mail_server_that_does_not_encrypt_gets_no_mail_unless_that_is_allowed() -> None:
    with mail_server() as (mailbox, port):
        (problem,) = notify(NotifyConfig(email=mail(port, security="starttls")), EVENT)
        assert "STARTTLS" in problem
        assert mailbox.letters == []


def test_a_file_that_cannot_be_written_is_a_problem_not_a_failure(tmp_path: Path) -> None:
    (problem,) = notify(NotifyConfig(file=str(tmp_path)), EVENT)
    assert problem.startswith("file: ")


def test_settings_are_read_from_the_workspace_and_without_them_nobody_is_told(
    tmp_path: Path,
) -> None:
    assert read_settings(tmp_path).receivers == ()
    assert notify(read_settings(tmp_path), EVENT) == []
    (tmp_path / "notify.yaml").write_text(
        "file: told.jsonl\nevents: [failure, waiting]\nwebhook: {url: 'https://example.com/x'}\n"
    )
    settings = read_settings(tmp_path)
    assert settings.file == str(tmp_path / "told.jsonl")
    assert settings.receivers == ("file", "webhook")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("webhook: {url: 'ftp://x'}", "webhook.url.*ftp://x.*give http"),
        ("mail: {}", "mail is not a parameter.*file, webhook, email"),
        ("events: [promotions]", "promotions.*promotion"),
        ("email: {host: x, sender: line, recipients: [a@b]}", "'line' is no mail address"),
        ("email: {host: x, sender: a@b, recipients: ['a@b, c@d']}", "'a@b, c@d' is no"),
        ("timeout: 0", "timeout=0"),
        ("[1", "cannot be read as YAML"),
        ("- a", "holds list; expected a mapping"),
        ("!!python/object/apply:os.system ['touch x']", "YAML"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "notify.yaml").write_text(content)
    with pytest.raises(InputError, match=said) as refused:
        read_settings(tmp_path)
    assert "notify.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)
