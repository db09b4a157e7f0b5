"""Texts of the generated conversations: titles, people, apps and the bodies of chats, encoded once."""

from __future__ import annotations

import base64
import random
from functools import cache
from typing import Any

import msgspec

_SENTENCES = (
    "안녕하세요, 주문한 상품이 아직 도착하지 않았습니다.",
    "환불 절차와 예상 소요 기간을 알려 주시겠어요?",
    "고객님의 소중한 의견에 감사드리며, 담당 부서에서 확인 후 순차적으로 안내해 드리겠습니다.",
    "비밀번호를 재설정하려면 설정 > 보안 메뉴에서 ‘비밀번호 변경’을 선택해 주세요. 🔐",
    "ご利用ありがとうございます。契約の更新日は毎月一日です。",
    "領収書の再発行は、マイページの「購入履歴」からお手続きいただけます。",
    "Could you tell me where my order is?",
    "The warranty covers parts and labour for 24 months; accidental damage is excluded.",
    'Error 0x80070057: "The parameter is incorrect" \\ please see C:\\Logs\\app.log',
    "שלום, איך אפשר לעדכן את כתובת המשלוח?",
    "مرحبا، كيف يمكنني تغيير كلمة المرور الخاصة بي؟",
    "Bonjour, j’aimerais connaître vos horaires d’ouverture. ☕️",
    "고마워요! 👩‍👩‍👧‍👦🎉 바로 해결됐어요.",
    "| 항목 | 금액 |\n| --- | ---: |\n| 기본료 | ₩12,900 |\n| 부가세 | ₩1,290 |",
    "1.\tOpen the menu\n2.\tChoose “Export”\n3.\tPick JSON Lines",
    "Zażółć gęślą jaźń — ñandú, Ærøskøbing, Đà Nẵng, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢.",
)
TITLES = (
    "",
    "배송 문의",
    "환불 및 교환 안내 💳",
    "계정 로그인 문제",
    "契約更新について",
    "Order status",
    "Password reset",
    "שאלה על חשבונית",
    "استفسار عن الفاتورة",
    "Facture n° 2024/15 — relance",
    "신제품 출시 일정 🚀",
    "ライセンスの追加",
    "Wi-Fi “not connected” <b>again</b>",
    "인사 규정 질의",
    "Quarterly report Q&A",
    "회의실 예약",
)
CATEGORIES: tuple[list[str] | None, ...] = (
    None,
    [],
    ["billing"],
    ["배송"],
    ["billing", "환불"],
    ["技術サポート"],
    ["hr", "benefits", "규정"],
    ["other"],
)
MEMOS = (None, None, None, "VIP 고객", "call back on Monday ☎️", None, "引き継ぎ済み", "")
VARIABLES: tuple[dict[str, Any] | None, ...] = (
    None,
    {},
    {"plan": "pro", "seats": 12, "언어": "ko"},
    {"plan": "free", "score": 0.75, "tags": ["new", "웹"]},
    {"order": {"id": "A-1029", "items": [{"sku": "X", "n": 2}]}, "plan": None},
    {"locale": "ja-JP", "returning": True},
)
_EXTRAS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"channel": "web"},
    {"channel": "kakao", "xTraceId": "00-4bf92f3577b34da6"},
    {"survey": {"asked": True, "answers": [{"q": 1, "a": "👍"}]}},
    {},
    {"channel": None},
)


class Person(msgspec.Struct, frozen=True):
    """A user: the id and case-folded name for filters, and the JSON for answers."""

    user_id: str
    folded: str
    json: bytes


class App(msgspec.Struct, frozen=True):
    """An LLM app."""

    app_id: str
    json: bytes


def _person(number: int) -> Person:
    first = ("민준", "서연", "さくら", "Zoë", "אורי", "ليلى", "John", "지우", "Nguyễn", "Ada")[number % 10]
    last = ("김", "이", "田中", "O’Neil", "כהן", "حداد", "Smith", "박", "Văn", "")[number // 10 % 10]
    user_id = f"user-{number:04d}"
    if number % 7 == 3:
        user_id = "base64:" + base64.b64encode(f"사용자-{number:04d}".encode()).decode()
    fields: dict[str, Any] = {"userId": user_id, "firstName": first, "lastName": last}
    if number % 5 == 0:
        fields["avatarUrl"] = None
    return Person(user_id, f"{first} {last}".casefold(), msgspec.json.encode(fields))


@cache
def people() -> tuple[Person | None, ...]:
    """The users; None for conversations with an unknown user."""
    return tuple(None if number % 32 == 31 else _person(number) for number in range(512))


@cache
def apps() -> tuple[App | None, ...]:
    """The LLM apps; None for conversations without an app."""
    names = ("Support 봇", "社内ヘルプ", "HR assistant", "Sales", "문서 검색", "Legal Q&A", "Onboarding 🎓")
    made: list[App | None] = [None]
    for number, name in enumerate(names):
        app_id = base64.b64encode(f"LLMApp:{number:024x}".encode()).decode()
        fields: dict[str, Any] = {"id": app_id, "name": name}
        if number % 3:
            fields["description"] = None if number % 3 == 1 else f"{name}: answers from documents"
        made.append(App(app_id, msgspec.json.encode(fields)))
    return tuple(made)


@cache
def extras() -> tuple[bytes, ...]:
    """Fields of conversations that the contract does not know, each with a leading comma."""
    return tuple(b"," + msgspec.json.encode(extra)[1:-1] if extra else b"" for extra in _EXTRAS)


def _message(draw: random.Random, mean: float) -> str:
    wanted = max(8, min(6000, int(draw.lognormvariate(0.0, 0.9) * mean)))
    parts: list[str] = []
    while wanted > 0:
        parts.append(draw.choice(_SENTENCES))
        wanted -= len(parts[-1])
    return " ".join(parts)


def _citation(draw: random.Random, number: int) -> dict[str, Any]:
    citation: dict[str, Any] = {"clueId": f"clue-{number}-{draw.randrange(1 << 32):08x}"}
    optional = {
        "source": "manual.pdf",
        "title": draw.choice(TITLES) or None,
        "knowledgeBaseId": f"kb-{draw.randrange(100)}",
        "pageNo": draw.choice((None, 1, 17)),
        "url": draw.choice((None, "https://example.com/docs?id=1&lang=ko")),
        "text": draw.choice((None, draw.choice(_SENTENCES))),
    }
    citation.update((key, value) for key, value in optional.items() if draw.random() < 0.7)
    return citation


def _source(draw: random.Random) -> dict[str, Any]:
    return {
        "knowledgeBaseIds": draw.choice((None, [], ["kb-1", "kb-22"])),
        "folderIds": None,
        "webSites": draw.choice((None, ["https://example.com/도움말"])),
        "searchAllSharedDocument": draw.random() < 0.5,
        "includingHashtags": draw.choice((None, ["#정책", "#2024"])),
        "includingHashtagsOperator": draw.choice((None, "AND")),
        "sharedKnowledgeBases": [{"id": "kb-1", "name": "사내 규정집.pdf"}],
        "sharedFolders": draw.choice((None, [{"id": "f-1", "name": "共有フォルダ"}])),
        "personalFolders": [],
    }


def _user_chat(draw: random.Random) -> dict[str, Any]:
    fields: dict[str, Any] = {"sender": "USER", "message": _message(draw, 55), "citations": None}
    fields |= {"rating": None, "agentRating": None}
    kind = draw.random()
    if kind < 0.3:
        fields["source"] = _source(draw)
    elif kind < 0.6:
        fields["source"] = None
    return fields


def _bot_chat(draw: random.Random) -> dict[str, Any]:
    cited = [_citation(draw, number) for number in range(draw.choice((0, 0, 1, 2, 3)))]
    fields: dict[str, Any] = {
        "sender": "AGENT" if draw.random() < 0.04 else "BOT",
        "message": _message(draw, 140),
        "source": None,
        "citations": cited or (None if draw.random() < 0.5 else []),
        "rating": draw.choice((None, None, None, True, False)),
        "agentRating": draw.choice((None, None, None, None, True)),
    }
    if draw.random() < 0.1:
        fields["model"] = {"name": "llm-4", "latencyMs": 812.5, "tokens": [311, 92]}
    return fields


@cache
def bodies() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Chats without id and time, as JSON without braces: users' chats, and answers."""
    draw = random.Random(20240101)  # noqa: S311 - made-up data, the same for all
    asked = tuple(msgspec.json.encode(_user_chat(draw))[1:-1] for _ in range(256))
    answered = tuple(msgspec.json.encode(_bot_chat(draw))[1:-1] for _ in range(512))
    return asked, answered
