"""The parts put together: one object that answers requests."""

import secrets
import sys
import traceback

from .auth import Auth
from .channels import Channels
from .control import Control
from .errors import EmulatorError, HttpError
from .faults import Faults
from .messages import Answer
from .privileges import Privileges
from .server import Log
from .session import Engine
from .settings import Settings
from .sql_api import SqlApi
from .store import Store
from .streaming import Streaming
from .tasks import Tasks


class Emulator:
    def __init__(self, data=None, control_token=None, openapi=None):
        self.settings = Settings()
        self.store = Store(data)
        self.auth = Auth(self.store, self.settings)
        self.privileges = Privileges(self.store)
        self.channels = Channels(self.store, self.settings)
        self.faults = Faults()
        self.log = Log()
        self.engine = Engine(self)
        self.tasks = Tasks(self)
        self.streaming = Streaming(self)
        self.sql_api = SqlApi(self, openapi)
        self.control_token = control_token or secrets.token_urlsafe(24)
        self.control = Control(self)

    def answer(self, request):
        try:
            for part in (self.control, self.sql_api, self.streaming):
                answer = part.handle(request)
                if answer is not None:
                    return answer
            raise HttpError(404, "ERR_NOT_FOUND", f"Nothing is at {request.path}.")
        except HttpError as error:
            return Answer.of_error(error)
        except EmulatorError as error:
            print(f"emulator: not supported: {error}", file=sys.stderr, flush=True)
            return Answer.of_json(501, {"code": "EMULATOR", "message": f"The emulator cannot do this: {error}"})
        except Exception as error:  # an answer must be given, and the bug seen
            traceback.print_exc()
            return Answer.of_json(500, {"code": "EMULATOR", "message": f"A bug in the emulator: {error!r}"})

    def close(self):
        self.tasks.stop()
        self.channels.stop()
        self.store.close()
