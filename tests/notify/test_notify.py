"""Events reach a file, a web server and a mailbox; receivers that are away break nothing."""

import email
import email.policy
import json
import time

import pytest
from receivers_nearby import free_port, mail_server

from flows.notify import Event, NotifyConfig, notify, read_settings
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


def mail(port, login="", to="anna@plant.test,ken@plant.test", how=""):
    address = f"mailto{how}://{login}127.0.0.1:{port}?smtp=127.0.0.1"
    return f"{address}&from=line@plant.test&to={to}"


def hook(url):
    return url.replace("http://", "json://")


def test_all_receivers_get_what_happened_its_figures_and_the_next_command(tmp_path):
    path = tmp_path / "told/events.jsonl"
    with answering() as web, mail_server() as (mailbox, port):
        chat = f"{hook(web.url)}?+Authorization=Bearer%20sesame"
        settings = NotifyConfig(file=str(path), urls={"chat": chat, "mail": mail(port)})
        assert notify(settings, EVENT) == {}
        assert notify(settings, EVENT) == {}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [EVENT.to_dict()] * 2
    posted = json.loads(web.asked[0].body)
    assert posted["title"] == "[mno] mno-darcy version 2 is champion — now"
    assert web.asked[0].headers["Authorization"] == "Bearer sesame"
    (first, letter), (second, _) = mailbox.letters[:2]
    assert first + second == ["anna@plant.test", "ken@plant.test"]
    message = email.message_from_string(letter, policy=email.policy.default)
    assert message["Subject"] == "[mno] mno-darcy version 2 is champion — now"
    sent = message.get_body(("plain",))
    assert sent is not None
    for text in (posted["message"], sent.get_content()):
        for part in ("0.01 against 0.02", "difference: -0.01", "Next: mno promote --history"):
            assert part in text


def test_receivers_that_are_away_are_named_and_the_others_still_told(tmp_path):
    path = tmp_path / "events.jsonl"
    away = {
        "a: chat": f"json://127.0.0.1:{free_port()}/",
        "mail": mail(free_port()),
        "x": "nonsense",
    }
    missed = notify(NotifyConfig(file=str(path), urls=away), EVENT)
    assert sorted(missed) == ["a: chat", "mail", "x"]
    assert "refused" in missed["a: chat"] and "refused" in missed["mail"]
    assert "nonsense" not in missed["x"]  # it may hold a secret
    assert len(path.read_text().splitlines()) == 1


def test_a_receiver_that_does_not_answer_holds_nothing_up():
    with answering(delay=3.0) as web:
        settings = NotifyConfig(urls={"chat": hook(web.url)}, timeout=0.3)
        start = time.monotonic()
        missed = notify(settings, EVENT)
        assert time.monotonic() - start < 2.0
    assert list(missed) == ["chat"] and "0.3 s" in missed["chat"]


def test_refusals_of_servers_are_told_with_their_reason():
    with answering(status=403) as web, mail_server(with_login=True) as (mailbox, port):
        wrong = mail(port, "line:wrong@")
        missed = notify(NotifyConfig(urls={"chat": hook(web.url), "mail": wrong}), EVENT)
        assert "403" in missed["chat"]
        assert "535" in missed["mail"]
        right = mail(port, "line:right@", "nobody@x.test,ken@x.test")
        assert "nobody@x.test" in notify(NotifyConfig(urls={"mail": right}), EVENT)["mail"]
        assert [to for to, _ in mailbox.letters] == [["ken@x.test"]]


def test_a_mail_server_that_does_not_encrypt_gets_no_mail_unless_that_is_allowed():
    with mail_server() as (mailbox, port):
        missed = notify(NotifyConfig(urls={"mail": mail(port, how="s")}), EVENT)
        assert "STARTTLS" in missed["mail"]
        assert mailbox.letters == []


def test_a_file_that_cannot_be_written_is_a_problem_not_a_failure(tmp_path):
    assert list(notify(NotifyConfig(file=str(tmp_path)), EVENT)) == ["file"]


def test_settings_are_read_from_the_workspace_and_without_them_nobody_is_told(tmp_path):
    assert read_settings(tmp_path).receivers == ()
    assert notify(read_settings(tmp_path), EVENT) == {}
    (tmp_path / "notify.yaml").write_text(
        "file: told.jsonl\nurls: {chat: 'jsons://example.com/x'}\n"
    )
    settings = read_settings(tmp_path)
    assert settings.file == str(tmp_path / "told.jsonl")
    assert settings.receivers == ("file", "chat")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("mail: {}", "mail is not a parameter.*file, urls"),
        ("urls: [json://x]", "urls"),
        ("timeout: 0", "timeout=0"),
        ("[1", "cannot be read as YAML"),
        ("- a", "holds list; expected a mapping"),
        ("!!python/object/apply:os.system ['touch x']", "YAML"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(tmp_path, content, said):
    (tmp_path / "notify.yaml").write_text(content)
    with pytest.raises(InputError, match=said) as refused:
        read_settings(tmp_path)
    assert "notify.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)
