"""Contracts as a user writes them. A line marked with `# E` must be refused by a type checker, no other may be."""

from typing import assert_type

from pydantic import BaseModel

from roost.codec import Codec
from roost.contracts import Address, Endpoint, Retry, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.errors import RetryLater


class Page(BaseModel):
    path: str


class Digest(BaseModel):
    words: int


status = Topic("team.{agent}.status", Page)
hello = Endpoint("hello", Page, Digest)
chat = StreamEndpoint("chat", Page, Digest)
digest = Task("digest", Page, Digest, retry=Retry(attempts=3, never_on=(ValueError,)), deadline_s=60)
notify = Task("notify", Page)
many = Task("many", list[Page], dict[str, Digest])
audit = Workflow("audit", Page, Digest, deadline_s=600)
approval = Signal("approval", Page)

assert_type(status, Topic[Page])
assert_type(status.at(agent="w1"), Address[Page])
assert_type(hello, Endpoint[Page, Digest])
assert_type(chat, StreamEndpoint[Page, Digest])
assert_type(digest, Task[Page, Digest])
assert_type(notify, Task[Page, None])
assert_type(many, Task[list[Page], dict[str, Digest]])
assert_type(audit, Workflow[Page, Digest])
assert_type(approval, Signal[Page])
assert_type(digest.output_codec, Codec[Digest])
assert_type(digest.output_codec.decode(b"", subject="s"), Digest)
assert_type(notify.output_codec.decode(b"", subject="s"), None)

digest.input_codec.encode(Page(path="p"), subject="s")
digest.input_codec.encode(Digest(words=1), subject="s")  # E
digest.output_codec.encode(None, subject="s")  # E
notify.output_codec.encode(Digest(words=1), subject="s")  # E
digest.input_codec.encode(Page(path="p"))  # E
status.codec.encode({"path": "p"}, subject="s")  # E

Task("digest", Page(path="p"), Digest)  # E
Task("digest", Page, Digest, Retry())  # E
Task("digest", Page, Digest, retries=3)  # E
Task("digest", Page, Digest, deadline_s="60")  # E
Task("digest")  # E
Endpoint("hello", Page)  # E
Workflow("audit", Page, Digest, attempt_timeout_s=1)  # E
Topic(Page, "team")  # E
Retry(5)  # E
Retry(attempts="5")  # E
Retry(never_on=ValueError)  # E
Retry(retry_on=(KeyboardInterrupt,))  # E
RetryLater(5)  # E
RetryLater(reason="rate limit")  # E

digest.deadline_s = 5  # E
digest.name = "other"  # E
status.at(agent=1)  # E
wrong: Task[Page, Page] = digest  # E
address: Address[Digest] = status.at(agent="w1")  # E
