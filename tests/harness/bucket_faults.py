"""A proxy between ggr's parts and an S3 server, which does what a bucket does on a bad day."""

import datetime
import http.client
import http.server
import random
import sys
import threading
import time

# How often each happens, beside the first time, which is certain; the draw is seeded. No object meets the same fate twice.
CHANCE = {"vanish": 0.05, "corrupt": 0.05}

# The least that `slow` leaves, in bytes a second, for everybody together.
RATE = 1_000_000

# How far a request's time may be off: what S3 allows.
SKEW = datetime.timedelta(minutes=15)

SKEWED = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>"


def skewed(time):
    """Whether a request was signed at another time than now."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return time is not None and abs(datetime.datetime.strptime(time, "%Y%m%dT%H%M%S%z") - now) > SKEW


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection; `server` holds what they share."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "clock" in server.faults and skewed(self.headers.get("X-Amz-Date")):
            # What S3 answers to a machine whose clock is wrong: the signature has the time in it. moto does not look.
            server.count("clock")
            return self.answer(403, {"Content-Type": "application/xml"}, SKEWED)
        time.sleep(server.delay)
        server.wait_for(len(body))
        is_object = self.command == "GET" and "/objects/" in self.path and "?list-type" not in self.path
        fault = server.draw(self.path) if is_object else None
        if fault == "vanish":
            self.forward("DELETE", b"")
        elif fault == "corrupt":
            # In the bucket itself: whoever reads it next finds it damaged too, until it is written again.
            _, _, stored = self.forward("GET", b"")
            self.forward("PUT", bytes(byte ^ 1 for byte in stored[:16]) + stored[16:])
        status, headers, answer = self.forward(self.command, body)
        server.wait_for(len(answer))
        self.answer(status, headers, b"" if self.command == "HEAD" else answer, len(answer))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def forward(self, method, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=120)
        dropped = {"host", "content-length", "connection", "expect", "transfer-encoding"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection.request(method, self.path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        kept = {name: value for name, value in response.getheaders()
                if name.lower() not in {"content-length", "connection", "transfer-encoding", "date", "server"}}
        connection.close()
        return response.status, kept, answer

    def answer(self, status, headers, body, length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if body or length is None else length))
        try:
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            # An environment was killed while it was being answered.
            self.close_connection = True

    def log_message(self, *_):
        pass


class Proxy(http.server.ThreadingHTTPServer):
    """Listens on loopback at a port of its own choice."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behind, faults, counts):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.faults, self.counts = behind, set(faults), counts
        # What each request waits, in seconds, before it is passed on.
        self.delay = 0.0
        self.lock, self.random, self.met, self.free = threading.Lock(), random.Random(1), set(), 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, address):
        # An environment that is killed leaves its connections like that.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)

    @property
    def port(self):
        return self.server_address[1]

    def count(self, fault):
        with self.lock:
            self.counts[fault] += 1

    def draw(self, path):
        """The fault that this object meets now, if any."""
        with self.lock:
            for fault in self.faults & CHANCE.keys():
                due = not self.counts[fault] or self.random.random() < CHANCE[fault]
                if due and path not in self.met:
                    self.met.add(path)
                    self.counts[fault] += 1
                    return fault
        return None

    def wait_for(self, size):
        """Lets so many bytes through at the rate."""
        if "slow" not in self.faults or not size:
            return
        with self.lock:
            self.counts["slow"] += 1
            start = max(self.free, time.monotonic())
            self.free = start + size / RATE
            pause = self.free - time.monotonic()
        time.sleep(max(0.0, pause))


FAULTS = [*CHANCE, "slow", "clock"]
