"""AdminService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from steelyard.accounting.errors import InvalidField, KeysNotKept
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.day_rules import rule_of_texts
from steelyard.operations.keep_accounts import AccountChange, AccountRecord, KeepAccounts
from steelyard.operations.keep_keys import KeepKeys
from steelyard.operations.ports import Clock
from steelyard.rpc import decode, encode
from steelyard.rpc.calls import Context
from steelyard.rpc.day_rules import day_rule, encode_day_rule
from steelyard.rpc.header import freshness, read_header, write_header
from steelyard.rpc.keys import encode_key, key_terms
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.tell_status import TellStatus
from steelyard.v1 import admin_pb2, admin_service_pb2, admin_service_pb2_grpc

T = TypeVar("T")
N = TypeVar("N", bound=int)

COST_METHODS: Mapping[admin_pb2.CostMethod.ValueType, CostMethod] = {
    admin_pb2.COST_METHOD_AVERAGE: CostMethod.AVERAGE,
    admin_pb2.COST_METHOD_LOTS: CostMethod.LOTS,
}
LOT_METHODS: Mapping[admin_pb2.LotMethod.ValueType, LotMethod] = {
    admin_pb2.LOT_METHOD_FIFO: LotMethod.FIFO,
    admin_pb2.LOT_METHOD_LIFO: LotMethod.LIFO,
    admin_pb2.LOT_METHOD_HIFO: LotMethod.HIFO,
}
SIZE_AUTHORITIES: Mapping[admin_pb2.SizeAuthority.ValueType, str] = {
    admin_pb2.SIZE_AUTHORITY_FILLS: "FILLS",
    admin_pb2.SIZE_AUTHORITY_LATEST: "LATEST",
    admin_pb2.SIZE_AUTHORITY_VENUE: "VENUE",
}


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Who may hold positions, and by which rules."""

    def __init__(
        self,
        *,
        accounts: KeepAccounts,
        keys: KeepKeys | None = None,
        status: TellStatus,
        tokens: PageTokens,
        clock: Clock,
    ) -> None:
        """`keys` is None while the service keeps none."""
        self._status = status
        self._accounts = accounts
        self._keys = keys
        self._tokens = tokens
        self._clock = clock

    async def UpsertAccount(
        self, request: admin_service_pb2.UpsertAccountRequest, context: Context
    ) -> admin_service_pb2.UpsertAccountResponse:
        """Makes an account, or changes one."""
        request_id = decode.uuid(request.request_id, field="request_id")
        expected = request.expected_version if request.HasField("expected_version") else None
        receipt = await self._accounts.upsert(
            _change(request, now=self._clock()),
            request=RequestIdentity(request_id, decode.body_hash(request)),
            expected_version=None if expected is None else decode.version(expected),
        )
        return admin_service_pb2.UpsertAccountResponse(
            header=write_header(receipt.commits, at=self._clock()),
            account=_account(receipt.record),
            replayed=receipt.is_replayed,
        )

    async def GetAccount(
        self, request: admin_service_pb2.GetAccountRequest, context: Context
    ) -> admin_service_pb2.GetAccountResponse:
        """One account, by name."""
        answer = await self._accounts.get(
            decode.account(request.account), freshness=freshness(request.min_commit, context)
        )
        return admin_service_pb2.GetAccountResponse(header=read_header(answer.seen), account=_account(answer.value))

    async def ListAccounts(
        self, request: admin_service_pb2.ListAccountsRequest, context: Context
    ) -> admin_service_pb2.ListAccountsResponse:
        """The accounts, by name."""
        answer = await self._accounts.page(
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            freshness=freshness(request.min_commit, context),
        )
        return admin_service_pb2.ListAccountsResponse(
            header=read_header(answer.seen),
            accounts=[_account(record) for record in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )

    async def CreateApiKey(
        self, request: admin_service_pb2.CreateApiKeyRequest, context: Context
    ) -> admin_service_pb2.CreateApiKeyResponse:
        """Makes an API key."""
        if not request.HasField("key"):
            raise InvalidField("key", "is required")
        request_id = decode.uuid(request.request_id, field="request_id")
        receipt = await self._kept_keys.create(
            key_terms(request.key), request=RequestIdentity(request_id, decode.body_hash(request))
        )
        return admin_service_pb2.CreateApiKeyResponse(
            header=write_header((), at=self._clock()),
            key=encode_key(receipt.key),
            secret=receipt.secret or "",
            replayed=receipt.is_replayed,
        )

    async def ListApiKeys(
        self, request: admin_service_pb2.ListApiKeysRequest, context: Context
    ) -> admin_service_pb2.ListApiKeysResponse:
        """The API keys, by owner and id."""
        page = await self._kept_keys.page(
            owner=request.owner or None,
            is_live_only=request.live_only,
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
        )
        return admin_service_pb2.ListApiKeysResponse(
            header=write_header((), at=self._clock()),
            keys=[encode_key(key) for key in page.rows],
            next_page_token=self._tokens.next(request, page.next_after),
        )

    async def RevokeApiKey(
        self, request: admin_service_pb2.RevokeApiKeyRequest, context: Context
    ) -> admin_service_pb2.RevokeApiKeyResponse:
        """Takes an API key back."""
        request_id = decode.uuid(request.request_id, field="request_id")
        receipt = await self._kept_keys.revoke(
            request.key_id, request=RequestIdentity(request_id, decode.body_hash(request))
        )
        return admin_service_pb2.RevokeApiKeyResponse(
            header=write_header((), at=self._clock()), key=encode_key(receipt.key), replayed=receipt.is_replayed
        )

    async def GetServiceStatus(
        self, request: admin_service_pb2.GetServiceStatusRequest, context: Context
    ) -> admin_service_pb2.GetServiceStatusResponse:
        """How the service is."""
        return await self._status.answer(context)

    @property
    def _kept_keys(self) -> KeepKeys:
        if self._keys is None:
            raise KeysNotKept
        return self._keys


def _change(request: admin_service_pb2.UpsertAccountRequest, *, now: datetime) -> AccountChange:
    if not request.HasField("account"):
        raise InvalidField("account", "is required")
    asked = request.account
    if asked.time_zone:
        decode.time_zone(asked.time_zone, field="account.time_zone")
    return AccountChange(
        account=decode.account(asked.account, field="account.account"),
        cost_method=_optional(asked.cost_method, COST_METHODS, field="account.cost_method"),
        lot_method=_optional(asked.lot_method, LOT_METHODS, field="account.lot_method"),
        size_authority=_optional(asked.size_authority, SIZE_AUTHORITIES, field="account.size_authority"),
        time_zone=asked.time_zone or None,
        day_rule=day_rule(asked.day_rule, field="account.day_rule"),
        sealed_before=_sealed_before(asked, now=now),
        is_unsealing=request.unseal,
    )


def _sealed_before(asked: admin_pb2.Account, *, now: datetime) -> datetime | None:
    """The time before which the account is to be sealed: what is still to come cannot be."""
    if not asked.HasField("sealed_before"):
        return None
    sealed_before = decode.timestamp(asked.sealed_before, field="account.sealed_before")
    if sealed_before > now:
        raise InvalidField("account.sealed_before", "lies in the future")
    return sealed_before


def _account(record: AccountRecord) -> admin_pb2.Account:
    rules = record.rules
    return admin_pb2.Account(
        account=rules.account,
        cost_method=_number(COST_METHODS, rules.cost_method),
        lot_method=_number(LOT_METHODS, rules.lot_method),
        size_authority=_number(SIZE_AUTHORITIES, rules.size_authority),
        time_zone=rules.time_zone,
        day_rule=encode_day_rule(rule_of_texts(rules.day_rule)),
        sealed_before=encode.optional_timestamp(rules.sealed_before),
        created_at=encode.timestamp(record.created_at),
        updated_at=encode.timestamp(record.updated_at),
        version=rules.version,
        etag=encode.etag(rules.version),
    )


def _optional(value: N, table: Mapping[N, T], *, field: str) -> T | None:
    """What an enum value stands for; unspecified keeps what the account has."""
    if not value:
        return None
    if value not in table:
        raise InvalidField(field, f"{value} is not a value of this field")
    return table[value]


def _number(table: Mapping[N, T], value: T) -> N:
    """The enum value that stands for this."""
    return next(number for number, meaning in table.items() if meaning == value)
