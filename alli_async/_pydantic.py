"""Models as Pydantic types. Imported only when Pydantic asks for a schema."""

from __future__ import annotations

from collections.abc import Callable
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, Struct, UnsetType
from pydantic import WithJsonSchema
from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


_NUMBER = Annotated[int | float, WithJsonSchema({"type": "number"})]


def core_schema_of(kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """The schema of a model.

    Input is an instance, or a mapping with names of Python or of the wire. Output has the names of Python, with
    `by_alias` too: FastAPI always asks for aliases.
    """
    fields = msgspec.structs.fields(kind)
    schemas = {each.name: handler.generate_schema(_pydantic_type(each.type)) for each in fields}
    given = core_schema.typed_dict_schema(
        {each.name: _input_field(each, schemas[each.name]) for each in fields},
        cls=kind,
    )
    ref = f"{kind.__module__}.{kind.__qualname__}:{id(kind)}"
    validated = core_schema.no_info_wrap_validator_function(_validator(kind), given)
    return core_schema.chain_schema([validated, _output(kind, fields, schemas)], ref=ref)


def _validator(kind: type[Struct]) -> Callable[[Any, core_schema.ValidatorFunctionWrapHandler], Any]:
    def validate(value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, kind) else kind(**handler(value))

    return validate


def _input_field(field: msgspec.structs.FieldInfo, schema: CoreSchema) -> core_schema.TypedDictField:
    if field.default is not NODEFAULT and field.default is not UNSET:
        schema = core_schema.with_default_schema(schema, default=field.default)
    elif field.default_factory is not NODEFAULT:
        schema = core_schema.with_default_schema(schema, default_factory=field.default_factory)
    names: list[list[str | int]] = [[field.name], [field.encode_name]]
    return core_schema.typed_dict_field(schema, required=field.required, validation_alias=names)


def _output(
    kind: type[Any], fields: tuple[msgspec.structs.FieldInfo, ...], schemas: dict[str, CoreSchema]
) -> CoreSchema:
    if any(each.default is UNSET for each in fields):
        shown = core_schema.typed_dict_schema(
            {name: core_schema.typed_dict_field(schema, required=False) for name, schema in schemas.items()},
            cls=kind,
        )
        ser = core_schema.plain_serializer_function_ser_schema(_set_fields, return_schema=shown)
        return core_schema.is_instance_schema(kind, serialization=ser)
    # Pydantic reads the attributes by itself, which is faster than to make dicts of them first.
    return core_schema.dataclass_schema(
        kind,
        core_schema.dataclass_args_schema(
            kind.__name__, [core_schema.dataclass_field(name, schema) for name, schema in schemas.items()]
        ),
        list(schemas),
    )


def _set_fields(model: Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(model).items() if value is not UNSET}


def _pydantic_type(annotation: Any) -> Any:
    if annotation == int | float:
        return _NUMBER
    if get_origin(annotation) in (Union, UnionType):
        kinds = [each for each in get_args(annotation) if each is not UnsetType]
        numbers = {int, float} <= set(kinds)
        kept = [each for each in kinds if not (numbers and each in (int, float))]
        return Union[tuple([_NUMBER] * numbers + kept)]  # noqa: UP007 - made at run time
    return annotation
