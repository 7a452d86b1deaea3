"""Runs tasks: on their schedule, by EXECUTE TASK, and on command. One run of a task at a time."""

import sys
import threading
import time
import traceback

from .errors import SqlError
from .lexer import Reader, starts_block
from .session import Context
from .task_sql import seconds_of


class Tasks:
    def __init__(self, emulator):
        self.emulator = emulator
        self.store = emulator.store
        self.lock = threading.Lock()
        self.running = {}          # path → thread
        self.history = []
        self.next = {}             # path → monotonic time
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="tasks", daemon=True)
        self.thread.start()

    def stop(self):
        self.stopped.set()
        self.thread.join()
        for thread in list(self.running.values()):
            thread.join(10)

    def watch(self):
        while not self.stopped.wait(0.2):
            for path, task in list(self.store.tasks.items()):
                every = seconds_of(task.get("schedule"))
                if task["state"] != "started" or every is None:
                    self.next.pop(path, None)
                    continue
                due = self.next.setdefault(path, time.monotonic() + every)
                if time.monotonic() >= due:
                    self.next[path] = time.monotonic() + every
                    self.start(path)

    def start(self, path):
        """Begins a run unless one is going on, and returns its thread."""
        with self.lock:
            if path in self.running:
                return self.running[path]
            thread = threading.Thread(target=self.run, args=(path,), daemon=True)
            self.running[path] = thread
            thread.start()
            return thread

    def run_now(self, path):
        """Runs it (or waits for the run that goes on) and returns what came of it."""
        thread = self.start(path)
        thread.join()
        return next((entry for entry in reversed(self.history) if entry["task"] == list(path)), None)

    def run(self, path):
        entry = {"task": list(path), "started": time.time(), "state": "SUCCEEDED", "error": None}
        try:
            task = self.store.tasks[path]
            context = Context("SYSTEM", task["owner"], path[0], path[1], task.get("warehouse") or self.any_warehouse(task))
            session = self.emulator.engine.session(context)
            try:
                text = task["definition"]
                tokens = Reader(text).tokens
                block = tokens[0].word == "DECLARE" or (tokens[0].word == "BEGIN" and starts_block(tokens, 0))
                session.execute_immediate(text) if block else session.run(text)
            finally:
                session.close()
        except SqlError as error:
            entry.update(state="FAILED", error=f"{error.code}: {error.message}")
        except Exception as error:  # a task's run must end in its history, whatever happened
            traceback.print_exc(file=sys.stderr)
            entry.update(state="FAILED", error=repr(error))
        entry["seconds"] = time.time() - entry["started"]
        with self.lock:
            self.history.append(entry)
            del self.history[:-1000]
            self.running.pop(path, None)
        self.count_failure(path, entry)

    def count_failure(self, path, entry):
        task = self.store.tasks.get(path)
        if task is None:
            return
        failures = task.get("failures", 0) + 1 if entry["state"] == "FAILED" else 0
        if failures != task.get("failures", 0):
            limit = int(task.get("suspend_task_after_num_failures", 10))
            state = "suspended" if limit and failures >= limit else task["state"]
            self.store.put("task", path, {**task, "failures": failures, "state": state})

    def any_warehouse(self, _task):
        """A serverless task brings its own compute."""
        return next(iter(self.store.warehouses), None)
