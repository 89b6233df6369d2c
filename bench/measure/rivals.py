"""Other packages' queues, each with what it can send; imported only when it is asked for.

A queue of bytes gets its numbers pickled, and its arrays as bytes, read where they arrived: the
best that each offers, as its documents say. Where one cannot wait, who waits yields the processor.
"""

import ctypes
import dataclasses
import glob
import importlib
import multiprocessing
import os
import pickle
import secrets
from collections.abc import Callable
from typing import Any, ClassVar

from bench.measure import apart
from bench.measure.channels import Get, Put, Side

ROOM = 16 << 20  # bytes in a rival's ring, at least
FIXED = 24  # bytes of a message, where all have the same size
PREFIX = "bench-"


def load(module: str) -> Any:
    """By name: what is not installed has no types, either."""
    return importlib.import_module(module)


@dataclasses.dataclass(frozen=True)
class Channel:
    """A queue by its name: each process opens it when it begins to use it."""

    name: str
    most: int
    sort: str
    size: int
    stays: ClassVar[bool] = False  # who sends may not end before all was received

    def create(self) -> Any:
        """In the process that starts the others, where the first to open it must not be two."""

    @property
    def room(self) -> int:
        return max(ROOM, 4 * self.size)

    def sender(self) -> Put:
        """For queues of bytes: what send() takes."""
        send = self.open_sender()
        if self.sort == "int":
            return lambda obj: send(pickle.dumps(obj))
        if self.sort == "array":
            return lambda array: send(array.data.cast("B"))
        return send

    def receiver(self) -> Get:
        receive = self.open_receiver()
        if self.sort == "int":
            return lambda: pickle.loads(receive())
        if self.sort == "array":
            of_buffer = load("numpy").frombuffer
            return lambda: of_buffer(receive())
        return receive

    def open_sender(self) -> Put:
        raise NotImplementedError

    def open_receiver(self) -> Get:
        raise NotImplementedError


class Cloudtoid(Channel):
    def open_sender(self) -> Put:
        make, give_way = load("cloudtoid_interprocess").Publisher, os.sched_yield
        publisher = make(self.name, self.room, "/dev/shm")

        def send(data: Any) -> None:
            while not publisher.try_send(data):
                give_way()

        return send

    def open_receiver(self) -> Get:
        make = load("cloudtoid_interprocess").Subscriber
        receive: Get = make(self.name, self.room, "/dev/shm").receive
        return receive


class Zooparallel(Channel):
    def open_queue(self) -> Any:
        return load("zooparallel").ZooQueue(self.name, self.room >> 20)

    create = open_queue

    def open_sender(self) -> Put:
        put: Put = self.open_queue().put_bytes
        if self.sort == "array":
            return lambda view: put(bytes(view))  # bytes is all that it takes
        return put

    def open_receiver(self) -> Get:
        get: Get = self.open_queue().get_bytes
        return get


class Zeroq(Channel):
    """All messages have the same size: pickles are filled up."""

    def open_queue(self) -> Any:
        return load("zeroq").Queue(self.name, create=False)

    def create(self) -> Any:
        size = FIXED if self.sort == "int" else self.size
        return load("zeroq").Queue(self.name, size, 1 << 16 if size <= FIXED else 4, create=True)

    def open_sender(self) -> Put:
        put: Put = self.open_queue().put
        if self.sort == "int":
            return lambda data: put(data.ljust(FIXED))
        return lambda data: put(bytes(data)) if self.sort == "array" else put(data)

    def open_receiver(self) -> Get:
        get: Get = self.open_queue().get
        return get


@dataclasses.dataclass(frozen=True)
class Made:
    """A queue that is made once and inherited."""

    queue: Any
    stays: ClassVar[bool] = False

    def sender(self) -> Put:
        put: Put = self.queue.put
        return put

    def receiver(self) -> Get:
        get: Get = self.queue.get
        return get


def dejaq(_name: str, _most: int, _sort: str, size: int) -> Made:
    return Made(load("dejaq.queues").DejaQueue(buffer_bytes=max(ROOM, 4 * size)))


def faster_fifo(_name: str, _most: int, _sort: str, size: int) -> Made:
    return Made(load("faster_fifo").Queue(max_size_bytes=max(ROOM, 4 * size)))


class Iceoryx2(Channel):
    """Publish and subscribe, made to block instead of losing; who receives has to ask.

    What a publisher sent is gone when it goes, so it has to stay.
    """

    stays = True

    def service(self) -> Any:
        iox = load("iceoryx2")
        iox.set_log_level(iox.LogLevel.Error)
        node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
        places = 4 if self.size > FIXED else 1024
        service = (
            node.service_builder(iox.ServiceName.new(self.name))
            .publish_subscribe(iox.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(places)
            .open_or_create()
        )
        return node, service

    def open_sender(self) -> Put:
        iox = load("iceoryx2")
        node, service = self.service()
        publisher = (
            service.publisher_builder()
            .initial_max_slice_len(max(64, self.size))
            .backpressure_strategy(iox.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )

        def send(data: Any, _keep: Any = node) -> None:
            sample = publisher.loan_slice_uninit(len(data))
            target = (ctypes.c_uint8 * len(data)).from_address(sample.payload_ptr)
            memoryview(target).cast("B")[:] = data
            sample.assume_init().send()

        return send

    def open_receiver(self) -> Get:
        node, service = self.service()
        subscriber, give_way = service.subscriber_builder().create(), os.sched_yield

        def receive(_keep: Any = node) -> bytes:
            while (sample := subscriber.receive()) is None:
                give_way()
            return bytes(sample.payload().as_memory_view())

        return receive


@dataclasses.dataclass(frozen=True)
class Rival:
    name: str  # as it is installed
    module: str
    make: Callable[[str, int, str, int], Any]

    def is_here(self) -> bool:
        return apart.is_here(self.module)


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("cloudtoid-interprocess", "cloudtoid_interprocess", Cloudtoid),
        Rival("zooparallel", "zooparallel", Zooparallel),
        Rival("zeroq", "zeroq", Zeroq),
        Rival("faster-fifo", "faster_fifo", faster_fifo),
        Rival("dejaq", "dejaq", dejaq),
        Rival("iceoryx2", "iceoryx2", Iceoryx2),
    )
}


class RivalSide(Side):
    """Its processes are the standard library's, forked."""

    def __init__(self, name: str) -> None:
        super().__init__(multiprocessing.get_context("fork"))
        self.rival = RIVALS[name]
        self.kept: list[Any] = []

    def channel(self, most: int = 0, sort: str = "int", size: int = FIXED) -> Any:
        name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        channel = self.rival.make(name, most, sort, size)
        if isinstance(channel, Channel):
            self.kept.append(channel.create())
        return channel


def sweep() -> None:
    """What rivals that were killed, or have no end of their own, left in shared memory."""
    for path in glob.glob(f"/dev/shm/*{PREFIX}*"):
        os.unlink(path)
