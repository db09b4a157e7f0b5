"""Cases in which a reader once lost, repeated or invented something, each at its smallest."""

from __future__ import annotations

from .case import Case, Change, FaultScript, FilterChoice, Mark, Reader

EXAMPLES = {
    "rows are deleted while a small list is read row by row around a row that cannot be read": Case(
        {"conversations": 5, "seed": 1},
        Reader("export"),
        history=(Change("delete", 28), Change("delete", 25, 500, 2)),
        marks=(Mark("deep", 126),),
    ),
    "a deleted row makes up for a missed one in the count": Case(
        {
            "conversations": 123,
            "seed": 77,
            "page_no": "ignored",
            "chat_count": "user",
            "embed": 5,
            "embed_abridged": 0,
            "ties": "shuffled",
        },
        Reader("skip"),
        history=(
            Change("delete", 1, 120),
            Change("lose_all_chats", 10, n=20),
            Change("delete", 24, 149, 5),
            Change("get_chat", 4, n=5),
        ),
        faults=(FaultScript("listConversationChats", ("ok", "ok", "ok", "ok", "429")),),
    ),
    "a page shows a row only once while pages hold one row in a changing order": Case(
        {"conversations": 60, "seed": 13, "unit": "s", "crowd": 64, "ties": "shuffled", "page_cap": 1},
        Reader("raw"),
    ),
    "rows leave between the count of all rows and the end of the list": Case(
        {"conversations": 195, "seed": 3, "cursor": "relay"},
        history=(Change("lose_only_chat", 9, 0, 2), Change("delete", 8, 1000)),
    ),
    "a conversation is left with one chat that the count leaves out": Case(
        {"conversations": 400, "seed": 60, "first_chat_fallback": True, "embed": 0, "chat_count": "user"},
        history=(Change("lose_first_chat", 1, 546, 60),),
    ),
    "a row is deleted between the first two pages of a list that is then cut": Case(
        {"conversations": 195, "seed": 0}, history=(Change("delete"),)
    ),
    "the first page is empty where the project is looked for": Case(
        {
            "conversations": 1,
            "seed": 83,
            "nulls": "first",
            "ragged": True,
            "first_chat_orders": "refused",
            "cursor": "relay",
            "unit": "s",
        },
        Reader("incremental"),
    ),
    "a row is deleted before the cursor": Case({"conversations": 51}, history=(Change("delete"),)),
    "a row is deleted before the cursor of an ordered stream": Case(
        {"conversations": 51}, Reader("ordered"), history=(Change("delete"),)
    ),
    "a conversation is deleted before its chats are read": Case({"conversations": 1}, history=(Change("delete"),)),
    "an old row loses its first chat": Case(
        {"conversations": 151, "seed": 0}, history=(Change("get_chat"), Change("lose_first_chat"))
    ),
    "rows leave a partition before the cursor": Case(
        {"conversations": 818, "seed": 25, "first_chat_orders": "refused", "chat_count": "user"},
        Reader("raw"),
        history=(Change("lose_all_chats", 14, 295, 2),),
    ),
    "windows hold rows without chats": Case(
        {"conversations": 101, "seed": 67, "first_chat_fallback": True, "page_cap": 7}
    ),
    "a row loses its only chat and stands among the rows without chats": Case(
        {"conversations": 177, "seed": 4}, Reader("incremental"), history=(Change("lose_only_chat", 11, 500, 5),)
    ),
    "old rows have no last chat time": Case({"conversations": 300, "null_last_chat": 0.5}, Reader("export")),
    "equal rows come in another order each time": Case({"conversations": 1000, "ties": "shuffled"}),
    "equal rows come in another order in an export": Case(
        {"conversations": 1000, "ties": "shuffled", "seed": 2}, Reader("export")
    ),
    "a short page brings a cursor again": Case(
        {
            "conversations": 500,
            "seed": 48,
            "unit": "s",
            "ragged": True,
            "nulls": "first",
            "first_chat_filters": "ignored",
        },
        Reader(filters=(FilterChoice("background_running", 1000),)),
    ),
    "filters take whole numbers": Case({"conversations": 151, "filter_numbers": "whole"}, Reader("export")),
    "large pages fail": Case({"conversations": 60, "heavy_page": 25}),
    "large pages fail in an export": Case({"conversations": 60, "heavy_page": 25}, Reader("export")),
    "embedded chats are abridged": Case({"conversations": 20, "embed_abridged": 40}),
    "pages of chats lag behind the list": Case({"conversations": 20, "chat_lag": 1}),
    "a page of chats is empty once": Case(
        {"conversations": 60, "embed": 0}, faults=(FaultScript("listConversationChats", ("ok", "empty_chats")),)
    ),
    "rows stand beside errors": Case(
        {"conversations": 200}, faults=(FaultScript("listConversations", ("ok", "errors_rows")),)
    ),
    "rows stand beside errors in a plain list": Case(
        {"conversations": 200}, Reader("list"), faults=(FaultScript("listConversations", ("ok", "errors_rows")),)
    ),
    "a row fails each page": Case({"conversations": 300}, Reader("skip"), marks=(Mark("poison", 500, 500),)),
    "a row fails each page of an export": Case(
        {"conversations": 300, "cursor": "keyset"}, Reader("export"), marks=(Mark("poison", 500, 500),)
    ),
    "a row is larger than the client allows": Case(
        {"conversations": 300}, Reader("skip"), marks=(Mark("huge", 500),)
    ),
    "a row is nested too deeply": Case({"conversations": 60}, Reader("export"), marks=(Mark("deep", 500),)),
    "the only row is nested too deeply": Case(
        {"conversations": 1, "seed": 0}, Reader("export"), marks=(Mark("deep"),)
    ),
    "the first and the last row are nested too deeply": Case(
        {"conversations": 60, "seed": 0}, Reader("export"), marks=(Mark("deep"), Mark("deep", 1000))
    ),
    "the first and the last row fail each page, and cursors are opaque": Case(
        {"conversations": 60, "seed": 0, "cursor": "opaque"},
        Reader("skip"),
        marks=(Mark("poison", 0, 500), Mark("poison", 1000, 500)),
    ),
    "every page that is read first holds a row that fails": Case(
        {"conversations": 2, "seed": 0}, Reader("export"), marks=(Mark("poison", 0, 500),)
    ),
    "a row fails pages with 503": Case(
        {"conversations": 85, "seed": 29, "compress": True}, marks=(Mark("poison", 0, 503),)
    ),
    "the only id cannot be part of a path": Case(
        {"conversations": 1, "seed": 0}, Reader("incremental"), marks=(Mark("id", 0, ""),)
    ),
    "an order is refused, and pages of more than one row fail": Case(
        {"conversations": 60, "seed": 81, "first_chat_orders": "refused", "heavy_page": 1}
    ),
    "pages of chats lag, and what was incomplete is asked for again": Case(
        {"conversations": 30, "seed": 62, "chat_count": "user", "embed": "all", "chat_lag": 20},
        Reader("incremental"),
    ),
    "rows are deleted while others are fetched one by one": Case(
        {"conversations": 137, "seed": 57},
        Reader("export"),
        (Change("delete", after=30, at=500, n=60),),
        marks=(Mark("huge", 1000),),
    ),
    "ties are shuffled, and rows can only be fetched one by one": Case(
        {
            "conversations": 60,
            "seed": 3,
            "nulls": "first",
            "heavy_page": 1,
            "null_last_chat": 0.1,
            "ties": "shuffled",
        }
    ),
    "an id cannot be part of a path": Case(
        {"conversations": 60, "embed": 0}, Reader("export"), marks=(Mark("id", 500, ".."),)
    ),
    "a time is far in the future": Case({"conversations": 300}, marks=(Mark("created", 1000, 1e300),)),
    "a time is before 1970": Case({"conversations": 300}, Reader("export"), marks=(Mark("created", 0, -1.0),)),
    "a list does not end": Case({"conversations": 300, "cursor": "endless"}),
    "a plain list does not end": Case({"conversations": 300, "cursor": "endless"}, Reader("list")),
    "an ordered stream has a filter on last chats": Case(
        {"conversations": 3}, Reader("ordered", (FilterChoice("end_at", 1000),))
    ),
}
