"""The dashboard API: preferences, summaries and live data of accounts."""

import json
import time

import flask
import prometheus_client
import waitress

import cache
import database
import settings

app = flask.Flask(__name__)
entries = cache.open_cache()


def answer(found):
    """The response for what a cache has returned. The headers are for the run's oracle."""
    if found is None:
        flask.abort(404)
    return flask.Response(found.body, mimetype="application/json", headers={"Shown": found.shown, "Filled": str(found.reads)})


def written(wrote, *keys):
    """The response for a write, after COMMIT."""
    at = time.time_ns()
    entries.changed(*keys)
    return flask.Response("{}\n", mimetype="application/json", headers={"Wrote": wrote, "Committed": str(at)})


@app.get("/users/<int:user>/preferences")
def preferences(user):
    return answer(entries.get(cache.PREFERENCES, user, database.preferences))


@app.put("/users/<int:user>/preferences")
def save_preferences(user):
    body = flask.request.get_json()
    return written(database.save_preferences(user, body["theme"], body["widgets"]), f"preferences:{user}")


@app.get("/accounts/<int:account>/summary")
def summary(account):
    return answer(entries.get(cache.SUMMARY, account, database.summary))


@app.get("/accounts/<int:account>/live")
def live(account):
    """Uncached, whatever the settings say."""
    return answer(cache.NoCache().get(None, account, database.live))


@app.post("/accounts/<int:account>/orders")
def place_order(account):
    return written(database.place_order(account, flask.request.get_json()["amount_cents"]), f"summary:{account}")


@app.post("/accounts/<int:account>/payments")
def pay_order(account):
    return written(database.pay_order(account), f"summary:{account}")


@app.put("/accounts/<int:account>/name")
def rename(account):
    return written(database.rename(account, flask.request.get_json()["name"]), f"summary:{account}")


@app.put("/accounts/<int:account>/presence")
def visit(account):
    return written(database.visit(account, flask.request.get_json()["online"]))


@app.get("/metrics")
def metrics():
    return flask.Response(prometheus_client.generate_latest(), content_type=prometheus_client.CONTENT_TYPE_LATEST)


@app.get("/up")
def up():
    return json.dumps({"accounts": database.live(1) is not None})


if __name__ == "__main__":
    waitress.serve(app, host=settings.host, port=settings.port, threads=settings.threads, backlog=1024, connection_limit=4000)
