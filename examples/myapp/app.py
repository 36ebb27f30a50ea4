"""MyApp measures something, keeps it in a document database, and says what it means."""

import http.server
import json
import os
import pathlib
import signal
import sys
import threading

import numpy
import pandas
import scipy.stats
import tinydb


def settings(path):
    """What the file says, overridden by the environment."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name.strip()] = value.strip()
    return {name: os.environ.get(name, value) for name, value in found.items()}


SETTINGS = settings(pathlib.Path(__file__).with_name(".env"))
DATABASE = tinydb.TinyDB(SETTINGS["DATABASE"])
LOCK = threading.Lock()


def measure(count):
    """A line with noise on it, the same for each visitor."""
    noise = numpy.random.default_rng(len(DATABASE) // count)
    x = numpy.arange(count)
    y = 3 * x + 7 + noise.normal(0, 5, count)
    return [{"x": int(a), "y": float(b)} for a, b in zip(x, y)]


def report():
    with LOCK:
        DATABASE.insert_multiple(measure(int(SETTINGS["SAMPLES"])))
        table = pandas.DataFrame(DATABASE.all())
    line = scipy.stats.linregress(table["x"], table["y"])
    return {
        "title": SETTINGS["TITLE"],
        "documents": len(table),
        "mean": round(float(table["y"].mean()), 2),
        "slope": round(float(line.slope), 2),
        "host": os.uname().nodename,
    }


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = {"ok": True} if self.path == "/health" else report()
        body = (json.dumps(answer) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *args):
        if self.path != "/health":
            print(form % args, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = http.server.ThreadingHTTPServer(("", int(SETTINGS["PORT"])), Handler)
    print(f"{SETTINGS['TITLE']} answers on port {SETTINGS['PORT']}", flush=True)
    server.serve_forever()
