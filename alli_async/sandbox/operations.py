"""The eleven operations as pure calls: query and body in, the body of a 200 out, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from msgspec import UNSET

from . import params
from .errors import not_found
from .lists import Lists
from .marks import Marks
from .options import Options
from .params import BulkUpdate, ConversationInfo, Pairs
from .render import ENDED_STATES, Edits, Renderer, encode
from .store import Store

_CHATS_PER_PAGE = 100
_NOTHING = b"null"


class Call(NamedTuple):
    """The ids of a request's path, decoded, its query and its body."""

    ids: tuple[str, ...]
    query: Pairs
    body: bytes


_Perform = Callable[["Operations", Call], bytes]
# Operations by method, by the parts of the path, where {} stands for an id.
_ROUTES: dict[tuple[str, ...], dict[str, str]] = {}
_PERFORM: dict[str, _Perform] = {}
OPERATIONS = _PERFORM.keys()
#: Operations whose requests name no conversation.
WITHOUT_ID: set[str] = set()


def _operation(name: str, method: str, path: str) -> Callable[[_Perform], _Perform]:
    def register(perform: _Perform) -> _Perform:
        _ROUTES.setdefault(tuple(path.split("/")), {})[method] = name
        if "{}" not in path:
            WITHOUT_ID.add(name)
        _PERFORM[name] = perform
        return perform

    return register


class Operations:
    """Performs the operations."""

    def __init__(
        self, store: Store, options: Options, marks: Marks, after_page: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._options = options
        self._marks = marks
        self._after_page = after_page
        self._lists = Lists(store, options)
        self._renderer = Renderer(store.data, options)

    def run(self, operation: str, call: Call) -> bytes:
        """The JSON of the answer.

        Raises:
            Refusal: The answer is an error.
        """
        return _PERFORM[operation](self, call)

    @_operation("listConversations", "GET", "/webapi/v2/conversations")
    def _list(self, call: Call) -> bytes:
        query = params.list_query(call.query, self._options)
        rows, cursor = self._lists.page(query)
        self._marks.check_page(rows)
        conversations = b",".join([self._conversation(index, query.variables) for index in rows])
        self._after_page()
        return b'{"conversations":[%b],"cursor":%b}' % (conversations, encode(cursor))

    @_operation("bulkUpdateConversations", "POST", "/webapi/v2/conversations/bulk_update")
    def _bulk_update(self, call: Call) -> bytes:
        update = params.body(call.body, BulkUpdate)
        edits = _edits(update.conversation_info)
        for index in self._selected(update):
            self._store.edit(index, edits)
        return _NOTHING

    @_operation("getConversation", "GET", "/webapi/v2/conversations/{}")
    def _get(self, call: Call) -> bytes:
        wanted = params.variables(call.query)
        return self._conversation(self._find(call), wanted)

    @_operation("updateConversation", "PATCH", "/webapi/v2/conversations/{}")
    def _update(self, call: Call) -> bytes:
        edits = _edits(params.body(call.body, ConversationInfo))
        index = self._find(call)
        self._store.edit(index, edits)
        return self._conversation(index)

    @_operation("listConversationChats", "GET", "/webapi/v2/conversations/{}/chats")
    def _list_chats(self, call: Call) -> bytes:
        number = params.page_number(call.query)
        index = self._find(call)
        if self._options.page_no == "ignored":
            number = 1
        row = self._store.row(index)
        count = max(0, len(row.timeline.sequences) - self._options.chat_lag)
        start = (number - 1) * _CHATS_PER_PAGE
        page = row.timeline.sequences[start : min(count, start + _CHATS_PER_PAGE)]
        chats = self._renderer.chats(row, page)
        return b'{"chats":[%b],"pageNo":%d,"totalCount":%d}' % (chats, number, count)

    @_operation("getConversationRunning", "GET", "/webapi/v2/conversations/{}/running")
    def _running(self, call: Call) -> bytes:
        return encode({"isRunning": self._store.poll_running(self._find(call))})

    @_operation("stopConversation", "POST", "/webapi/v2/conversations/{}/stop")
    def _stop(self, call: Call) -> bytes:
        self._store.stop(self._find(call))
        return _NOTHING

    @_operation("deleteConversationChat", "DELETE", "/webapi/v2/conversations/{}/chats/{}")
    def _delete_chat(self, call: Call) -> bytes:
        self._store.delete_chat(*self._find_chat(call))
        return _NOTHING

    @_operation("updateConversationTitle", "PUT", "/webapi/v2/conversations/{}/title")
    def _set_title(self, call: Call) -> bytes:
        title = params.body(call.body, params.Title).title
        index = self._find(call)
        self._store.edit(index, Edits(title=title))
        return self._conversation(index)

    @_operation("postChatFeedback", "POST", "/webapi/v2/conversations/{}/chats/{}/feedback")
    def _feedback(self, call: Call) -> bytes:
        given = params.body(call.body, params.Feedback)
        index, sequence = self._find_chat(call)
        answer = {"conversationId": call.ids[0], "chatId": call.ids[1]}
        if given.rating is UNSET:
            return encode(answer)
        self._store.rate(index, sequence, given.rating)
        return encode({**answer, "rating": given.rating})

    @_operation("getDailyConversationCount", "GET", "/webapi/conversation_daily_count")
    def _daily_count(self, call: Call) -> bytes:
        asked = params.body(call.body, params.Range)
        try:
            first, last = params.days(asked)
        except ValueError as error:
            # This operation fails with 200. The contract lets `result` be missing, but not null.
            return encode({"errors": {"code": 7003, "message": f"Invalid date range: {error}"}})
        counts = [{"date": day, "activeCount": count} for day, count in self._store.daily_counts(first, last)]
        return encode({"result": {"dailyTotalCount": counts, "state": "done", "campaignCount": 0}, "errors": None})

    def _conversation(self, index: int, variables: frozenset[str] | None = None) -> bytes:
        store, renderer = self._store, self._renderer
        if variables is None and store.is_as_generated(index):
            made = renderer.generated_conversation(index, store.row)
        else:
            made = renderer.conversation(store.row(index), variables)
        return self._marks.apply(index, made)

    def _find(self, call: Call) -> int:
        index = self._store.find(call.ids[0])
        if index is None:
            raise not_found("Conversation")
        self._marks.check_conversation(index)
        return index

    def _find_chat(self, call: Call) -> tuple[int, int]:
        index = self._find(call)
        sequence = self._store.find_chat(index, call.ids[1])
        if sequence is None:
            raise not_found("Chat")
        return index, sequence

    def _selected(self, update: BulkUpdate) -> list[int]:
        store = self._store
        rows: Iterable[int] = store.indices()
        if update.conversation_ids is not None:
            found = map(store.find, update.conversation_ids)
            rows = sorted({index for index in found if index is not None})
        return [index for index in rows if self._is_meant(update, index)]

    def _is_meant(self, update: BulkUpdate, index: int) -> bool:
        shown = self._store.profile(index)
        person, app = shown.person, shown.app
        return (
            (update.user_ids is None or (person is not None and person.user_id in update.user_ids))
            and (update.llm_app_ids is None or (app is not None and app.app_id in update.llm_app_ids))
            and (update.category_ids is None or not set(update.category_ids).isdisjoint(shown.categories or ()))
        )


def _edits(info: ConversationInfo) -> Edits:
    """The edits of a body. A title of null becomes empty, because answers never have a null title."""
    title = "" if info.title is None else info.title
    is_end = UNSET if info.state is UNSET else info.state in ENDED_STATES
    return Edits(title, info.category_ids, info.state, info.assignee, is_end)


def route(path: str) -> tuple[Mapping[str, str], tuple[str, ...]] | None:
    """The operations of a raw path by their method, and the ids in it, decoded once.

    The path is split before it is decoded, so an id may hold any character, even a slash.
    """
    parts = path.split("/")
    fixed = _ROUTES.get(tuple(parts))
    if fixed is not None and "{}" not in parts:
        return fixed, ()
    places = [place for place in (4, 6) if place < len(parts)]
    ids = tuple(unquote(parts[place], errors="replace") for place in places if parts[place])
    for place in places:
        parts[place] = "{}"
    methods = _ROUTES.get(tuple(parts))
    return (methods, ids) if methods is not None and len(ids) == len(places) else None
