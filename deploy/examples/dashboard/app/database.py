"""The queries. Each returns rows with their versions, in the form of the header Shown."""

import contextlib
import json
import threading

import psycopg2

import settings

DEFAULTS = {"theme": "light", "widgets": ["revenue", "orders"]}

_of_thread = threading.local()


@contextlib.contextmanager
def _cursor():
    """A cursor on the connection of this thread. Each statement is a transaction of its own."""
    if getattr(_of_thread, "connection", None) is None:
        _of_thread.connection = psycopg2.connect(settings.database_url)
        _of_thread.connection.autocommit = True
    try:
        with _of_thread.connection.cursor() as cursor:
            yield cursor
    except psycopg2.OperationalError:
        _of_thread.connection.close()
        _of_thread.connection = None
        raise


def _one(sql, *args):
    with _cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchone()


def preferences(user):
    """The preferences of a user, and the default ones for users who have saved nothing."""
    row = _one(
        "SELECT theme, widgets, COALESCE(version, 0) FROM users LEFT JOIN preferences ON user_id = id WHERE id = %s", user
    )
    if row is None:
        return None
    theme, widgets, version = row
    body = DEFAULTS if theme is None else {"theme": theme, "widgets": widgets}
    return json.dumps(body), f"preferences:{user}={version}"


def summary(account):
    """What an account sold in the last 30 days, by day. One statement, so that it is of one moment."""
    row = _one(
        """WITH days AS (
             SELECT placed_on, count(*) AS orders, count(*) FILTER (WHERE status = 'open') AS open,
                    sum(amount_cents) FILTER (WHERE status <> 'refunded') AS revenue
             FROM orders WHERE account_id = %s GROUP BY placed_on ORDER BY placed_on DESC LIMIT 30)
           SELECT a.name, a.currency, a.version, b.version, (SELECT json_agg(days) FROM days)
           FROM accounts a JOIN books b ON b.account_id = a.id WHERE a.id = %s""",
        account, account,
    )
    if row is None:
        return None
    name, currency, of_account, of_orders, days = row
    body = json.dumps({"name": name, "currency": currency, "days": days or []})
    return body, f"account:{account}={of_account} orders:{account}={of_orders}"


def live(account):
    """Who is online now."""
    row = _one("SELECT online, version FROM presence WHERE account_id = %s", account)
    if row is None:
        return None
    return json.dumps({"online": row[0]}), f"presence:{account}={row[1]}"


def save_preferences(user, theme, widgets):
    """Returns the row that was written with its version."""
    row = _one(
        """INSERT INTO preferences (user_id, theme, widgets) VALUES (%s, %s, %s)
           ON CONFLICT (user_id) DO UPDATE SET theme = EXCLUDED.theme, widgets = EXCLUDED.widgets RETURNING version""",
        user, theme, json.dumps(widgets),
    )
    return f"preferences:{user}={row[0]}"


def place_order(account, amount_cents):
    """Returns the list that was written with its version, which is that of a later order if one was faster."""
    _one("INSERT INTO orders (account_id, placed_on, amount_cents) VALUES (%s, current_date, %s) RETURNING id", account, amount_cents)
    return _orders(account)


def pay_order(account):
    """Pays the oldest open order, if there is one."""
    _one(
        """UPDATE orders SET status = 'paid' WHERE id = (SELECT min(id) FROM orders WHERE account_id = %s AND status = 'open')
           RETURNING id""",
        account,
    )
    return _orders(account)


def _orders(account):
    version = _one("SELECT version FROM books WHERE account_id = %s", account)[0]
    return f"orders:{account}={version}"


def rename(account, name):
    """Returns the row that was written with its version."""
    return f"account:{account}={_one('UPDATE accounts SET name = %s WHERE id = %s RETURNING version', name, account)[0]}"


def visit(account, online):
    """Sets how many are online."""
    return f"presence:{account}={_one('UPDATE presence SET online = %s WHERE account_id = %s RETURNING version', online, account)[0]}"


def position():
    """The end of the log: what was committed before lies before it."""
    return _one("SELECT pg_current_wal_insert_lsn()::text")[0]
