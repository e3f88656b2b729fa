#!/usr/bin/python3
"""client.py - the demonstration's client: numbered transactions, each acknowledged commit logged.

    client.py HOST LOG STOP_FILE FIRST [WORKERS]

Each worker commits one transaction after the other: a random account is changed, and a row with
the worker's next number, from FIRST on, is added. What the server acknowledged is written to LOG
before the next transaction begins, one line each:

    ack      TIME LATENCY_MS WORKER NUMBER      committed, the server said so
    unknown  TIME LATENCY_MS WORKER NUMBER TEXT COMMIT was sent, no answer came
    failed   TIME LATENCY_MS WORKER NUMBER TEXT it did not come as far as COMMIT
    connect  TIME LATENCY_MS WORKER -           connected (again)

TIME is the end of it, in seconds since 1970. A failed number is not used again. Ends when
STOP_FILE is there.

Beside them an export (worker 0, not numbered, logged only when it fails) has the server write a
file with direct I/O, a block every 50 ms: a writer that does not wait for the others' commits.
"""
import os
import random
import sys
import threading
import time

import psycopg2

ACCOUNTS = 100000  # Rows of the table that run.sh makes.
PAUSE_S = 0.004  # Between transactions: load, but no flood.
RECONNECT_S = 0.05
EXPORT = """COPY (SELECT rpad(pg_sleep(0.05)::text, 4095, 'x') FROM generate_series(1, 60))
TO PROGRAM 'dd of=ferry-export bs=4096 iflag=fullblock oflag=direct conv=notrunc status=none'"""


class Log:
    def __init__(self, path):
        self.file = open(path, "w", buffering=1, encoding="utf-8")
        self.lock = threading.Lock()

    def write(self, kind, begin, worker, number, text=""):
        end = time.time()
        text = " ".join(str(text).split())
        with self.lock:
            self.file.write(
                f"{kind}\t{end:.6f}\t{(end - begin) * 1000:.3f}\t{worker}\t{number}\t{text}\n"
            )


def connect(host, log, worker, stop):
    while not os.path.exists(stop):
        begin = time.time()
        try:
            connection = psycopg2.connect(
                host=host, dbname="postgres", user="postgres", connect_timeout=2,
                keepalives_idle=2, keepalives_interval=1, keepalives_count=3,
                tcp_user_timeout=20000)
        except psycopg2.Error:
            time.sleep(RECONNECT_S)
            continue
        log.write("connect", begin, worker, "-")
        return connection
    return None


def transaction(connection, log, worker, number, dice):
    """True if the connection can still be used."""
    begin = time.time()
    is_sent = False
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE accounts SET balance = balance + 1 WHERE id = %s",
                (dice.randrange(ACCOUNTS) + 1,))
            cursor.execute("INSERT INTO commits VALUES (%s, %s, now())", (worker, number))
        is_sent = True
        connection.commit()
    except psycopg2.Error as error:
        log.write("unknown" if is_sent else "failed", begin, worker, number, error)
        return False
    log.write("ack", begin, worker, number)
    return True


def work(host, log, worker, stop, number):
    dice = random.Random(worker)
    connection = None
    while not os.path.exists(stop):
        if connection is None:
            connection = connect(host, log, worker, stop)
            continue
        if not transaction(connection, log, worker, number, dice):
            connection.close()
            connection = None
        number += 1
        time.sleep(PAUSE_S)
    if connection is not None:
        connection.close()


def export(host, log, stop):
    connection = None
    while not os.path.exists(stop):
        if connection is None:
            connection = connect(host, log, 0, stop)
            continue
        begin = time.time()
        try:
            with connection.cursor() as cursor:
                cursor.execute(EXPORT)
            connection.rollback()
        except psycopg2.Error as error:
            log.write("failed", begin, 0, "-", error)
            connection.close()
            connection = None


def main():
    host, path, stop = sys.argv[1:4]
    first = int(sys.argv[4])
    workers = int(sys.argv[5]) if len(sys.argv) > 5 else 4
    log = Log(path)
    threads = [
        threading.Thread(target=work, args=(host, log, worker, stop, first), daemon=True)
        for worker in range(1, workers + 1)
    ]
    threads.append(threading.Thread(target=export, args=(host, log, stop), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
