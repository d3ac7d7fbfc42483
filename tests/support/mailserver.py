"""A real mail server for tests: Debian's dovecot (IMAP, LMTP) and postfix (SMTP) on loopback.

with MailServer(folder) as server:
    user = server.user()            # user@hub.test, with server.password
    server.write(user, [raw])       # straight into the mailbox
    server.submit(raw, sender=..., to=...)  # by the MTA

One server for a run: tests share it, each with users of its own. Both daemons stay in the
foreground, as children that the kernel ends with the test process.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.introspection import Introspection

READY_S = 20.0
STOP_S = 10.0
FIRST_PORT, LAST_PORT = 20_000, 32_000
DOMAIN = "hub.test"
MAIL_UID = 5000
USERS = 500
ANYBODY = "/./ OK\n"

DOVECOT = """
base_dir = {base}/run
state_dir = {base}/run
log_path = {base}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{base}/tls/cert.pem
ssl_key = <{base}/tls/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login xoauth2
mail_location = maildir:~/Maildir
mail_uid = 5000
mail_gid = 5000
first_valid_uid = 5000
mail_max_userip_connections = 200
mailbox_idle_check_interval = 1 secs
auth_failure_delay = 0
login_trusted_networks = 127.0.0.0/8
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {base}/oauth2.conf
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login
  args = {base}/users
}}
userdb {{
  driver = passwd-file
  args = {base}/users
  default_fields = uid=5000 gid=5000 home={base}/home/%u
}}
namespace inbox {{
  inbox = yes
  mailbox Sent {{
    auto = subscribe
    special_use = \\Sent
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {auth}
  }}
}}
protocol lmtp {{
  auth_username_format = %n
}}
recipient_delimiter = +
"""

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {base}/spool
data_directory = {base}/data
maillog_file = {base}/postfix.log
maillog_file_prefixes = {base}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.hub.test
mydestination =
alias_maps =
local_recipient_maps =
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = regexp:{base}/postfix/domains
virtual_transport = lmtp:inet:127.0.0.1:{lmtp}
recipient_delimiter = +
smtpd_tls_cert_file = {base}/tls/cert.pem
smtpd_tls_key_file = {base}/tls/key.pem
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth}
smtp_dns_support_level = disabled
disable_dns_lookups = yes
smtpd_client_connection_count_limit = 0
minimal_backoff_time = 5s
queue_run_delay = 5s
message_size_limit = 26214400
"""

MASTER_CF = """
127.0.0.1:{smtp} inet n - n - - smtpd
127.0.0.1:{submission} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 5 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing_parts() -> str:
    """Return what keeps a real mail server from running here, "" if nothing does."""
    lacking = [name for name in ("dovecot", "postfix") if not _program(name)]
    if lacking:
        return f"apt-get install dovecot-imapd dovecot-lmtpd postfix ({', '.join(lacking)} missing)"
    return "" if os.geteuid() == 0 else "dovecot and postfix start as root only"


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


class MailServer:
    """See the module. Ports, folders and passwords are its own."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="omniline-mail-", dir="/tmp"))
        self.password = f"pw-{uuid.uuid4().hex[:12]}"
        ports = _free_ports(6)
        self.imap, self.imaps, self.smtp, self.submission, self.lmtp, self.auth = ports
        # All there at the start: a running dovecot notices new ones only a second later.
        self._users = iter([f"u{number}" for number in range(1, USERS + 1)])
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.introspection = Introspection()

    @property
    def ca_file(self) -> str:
        return str(self.base / "tls" / "cert.pem")

    # --- users and mails -----------------------------------------------------------------------

    def user(self) -> str:
        """Return a user that no test has had yet: ``user@hub.test`` is a mailbox."""
        return next(self._users)

    def settings(self, name: str, **more: Any) -> dict[str, Any]:
        """Return the settings of a mail account for a user."""
        return {
            "address": f"{name}@{DOMAIN}",
            "user": name,
            "password": self.password,
            "imap_host": "localhost",
            "imap_port": self.imaps,
            "smtp_host": "localhost",
            "smtp_port": self.submission,
            "smtp_tls": "starttls",
            "ca_file": self.ca_file,
            **more,
        }

    def maildir(self, name: str, folder: str = "INBOX") -> Path:
        root = self.base / "home" / name / "Maildir"
        return root if folder == "INBOX" else root / f".{folder}"

    def write(
        self, name: str, mails: Sequence[bytes], folder: str = "INBOX", *, age_s: float = 0.0
    ) -> None:
        """Put mails straight into a folder, as if they had arrived ``age_s`` ago."""
        root = self.maildir(name, folder)
        for each in ("cur", "new", "tmp"):
            (root / each).mkdir(parents=True, exist_ok=True)
        for number, mail in enumerate(mails):
            path = root / "new" / f"{time.time_ns()}.{number}.host"
            path.write_bytes(mail.replace(b"\r\n", b"\n"))
            os.utime(path, (time.time() - age_s, time.time() - age_s))
            os.chown(path, MAIL_UID, MAIL_UID)
        for path in [self.base / "home" / name, *(self.base / "home" / name).rglob("*")]:
            if path.stat().st_uid != MAIL_UID:
                os.chown(path, MAIL_UID, MAIL_UID)

    def submit(self, mail: bytes, *, sender: str, to: str) -> None:
        """Hand a mail to the MTA, as another server on the network would."""
        with smtplib.SMTP("127.0.0.1", self.smtp, "client.test", timeout=10) as smtp:
            smtp.sendmail(sender, [to], mail)

    def kick(self, name: str) -> None:
        """Cut every connection of a user."""
        self._doveadm("kick", name)

    def _doveadm(self, *words: str) -> None:
        subprocess.run(
            ["doveadm", "-c", str(self.base / "dovecot.conf"), *words],
            check=False,
            timeout=READY_S,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # --- life ----------------------------------------------------------------------------------

    def __enter__(self) -> MailServer:
        try:
            self._prepare()
            self.introspection.start()
            self._start("dovecot", "-F", "-c", str(self.base / "dovecot.conf"))
            self._start("postfix", "-c", str(self.base / "postfix"), "start-fg")
            for port in (self.imap, self.imaps, self.smtp, self.submission, self.lmtp):
                self._wait_for(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop_master()
        self.introspection.stop()
        for daemon in self._daemons:
            with suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGTERM)
        for daemon in self._daemons:
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(STOP_S)
            # Its own process group: nothing of it stays behind.
            with suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait(STOP_S)
        shutil.rmtree(self.base, ignore_errors=True)

    def _stop_master(self) -> None:
        """End Postfix's master: it makes a session of its own, which no signal of ours reaches."""
        noted = self.base / "spool/pid/master.pid"
        if not noted.exists():
            return
        master = int(noted.read_text())
        for number in (signal.SIGTERM, signal.SIGKILL):
            ends = time.monotonic() + STOP_S
            with suppress(ProcessLookupError):
                os.killpg(master, number)
                while time.monotonic() < ends:
                    os.kill(master, 0)
                    time.sleep(0.02)

    def _prepare(self) -> None:
        base = self.base
        base.chmod(0o755)
        for name in ("home", "run", "postfix", "spool", "data", "tls"):
            (base / name).mkdir()
        os.chown(base / "home", MAIL_UID, MAIL_UID)
        shutil.chown(base / "data", "postfix")
        users = [f"u{number}:{{PLAIN}}{self.password}::::::" for number in range(1, USERS + 1)]
        (base / "users").write_text("\n".join([*users, ""]))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(base / "tls/key.pem"), "-out", str(base / "tls/cert.pem")],
            check=True, timeout=READY_S, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        values = {
            "base": base, "imap": self.imap, "imaps": self.imaps, "smtp": self.smtp,
            "submission": self.submission, "lmtp": self.lmtp, "auth": self.auth,
        }  # fmt: skip
        (base / "dovecot.conf").write_text(DOVECOT.format(**values))
        (base / "oauth2.conf").write_text(self.introspection.settings)
        (base / "postfix/main.cf").write_text(MAIN_CF.format(**values))
        (base / "postfix/master.cf").write_text(MASTER_CF.format(**values))
        (base / "postfix/domains").write_text(ANYBODY)
        maps = Path("/etc/postfix/dynamicmaps.cf")
        if maps.exists():
            shutil.copy(maps, base / "postfix" / maps.name)

    def _start(self, name: str, *words: str) -> None:
        program = _program(name)
        assert program is not None
        with (self.base / f"{name}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(
                    [program, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    process_group=0,
                    preexec_fn=_die_with_parent,
                )
            )

    def _wait_for(self, port: int) -> None:
        until = time.monotonic() + READY_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    return
            except OSError:
                if time.monotonic() > until or any(d.poll() is not None for d in self._daemons):
                    raise RuntimeError(f"the mail server did not start:\n{self.logs()}") from None
                time.sleep(0.05)

    def logs(self) -> str:
        names = ("dovecot.out", "dovecot.log", "postfix.out", "postfix.log")
        found = [self.base / name for name in names]
        return "\n".join(path.read_text()[-2000:] for path in found if path.exists())


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _free_ports(count: int) -> list[int]:
    """Return ports below those that clients get, which nobody listens on."""
    found: list[int] = []
    candidate = FIRST_PORT + (os.getpid() * 37) % (LAST_PORT - FIRST_PORT - 500)
    while len(found) < count:
        candidate += 1
        with socket.socket() as probe:
            with suppress(OSError):
                probe.bind(("127.0.0.1", candidate))
                found.append(candidate)
    return found


@contextmanager
def real_mail_server() -> Iterator[MailServer]:
    """A started server; skips, or fails where real parts are required."""
    lacking = missing_parts()
    if lacking:
        if os.environ.get("OMNILINE_REQUIRE_REAL") == "1":
            pytest.fail(f"no real mail server: {lacking}")
        pytest.skip(f"no real mail server: {lacking}")
    with MailServer() as server:
        yield server
