"""LLVM IR of what runs a program: the loop over its jobs, on one thread or several, and the life of a worker.

Everything that threads share is memory laid out by `threads` (the pool: one block for each thread) and `program` (the
frame: one program's tables). A parallel job is divided into chunks, some for each thread. Every thread walks all
segments of the program in order:

- A thread claims its own chunks one by one, by compare-and-swap on its own *claim* word, (epoch << 12) + next chunk;
  the epoch numbers segments for the lifetime of the pool, so that a word of an earlier one means "none claimed yet".
- Whoever has run a chunk adds one to its own *finished* counter. A segment is over when the counters' sum says so: one
  cache line goes from thread to thread, and no instruction is contended.
- Who waits for long claims what others have left: of a worker that has not woken up yet, or that the system has taken
  off its core; and doesn't wait for long in the next segments, until somebody else is seen to do his share. So a busy
  core costs time in proportion, not a time slice at every job.
- A share of a chain (see `chains`) is one chunk: a kernel that runs chunks of the jobs in it.
- Segments without parallelism (serial jobs in sequence) are the calling thread's; workers wait for its counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from .builtins import ANSWER
from .program_code import CHUNK, COMMON
from .target import Target

HEADER, BLOCK = 512, 512
"""Bytes of the pool's header, and of each thread's block after it."""
CLAIM, FINISHED = 128, 256
"""Where in a block the two counters are: each alone in its cache lines, whatever the line is (128 at most)."""
WARY = 4
"""Pauses that a thread waits before it takes over others' work if it had to in the segment before."""
IDLE, POSTED, STOP, TAKEN = 0, 1, 2, 3
"""States of a mailbox, with which a block begins."""

_PAUSE = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.isb(i32)", "call void @llvm.aarch64.isb(i32 15)"),
}
_CLOCK = {
    "x86_64": ("declare i64 @llvm.readcyclecounter()", "call i64 @llvm.readcyclecounter()", ""),
    "aarch64": (
        "declare i64 @llvm.read_volatile_register.i64(metadata)",
        "call i64 @llvm.read_volatile_register.i64(metadata !0)",  # a counter that programs may read, unlike cycles
        '!0 = !{!"cntvct_el0"}',
    ),
}

_CLOCK_FUNCTION = """
define i64 @wengert_clock() {
  %now = $CLOCK
  ret i64 %now
}
"""

_WALK = """
define internal void @walk$T(ptr %pool, ptr %frame, i64 %me, i64 %epoch, i64 %before, i64 %threads) {
entry:
  %segments = call ptr @pointer(ptr %frame, i64 0)
  %count = call i64 @word(ptr %frame, i64 1)
  %chunks = call ptr @pointer(ptr %frame, i64 2)
  %tables = call ptr @pointer(ptr %frame, i64 3)
  %scratches = call ptr @pointer(ptr %frame, i64 4)
  %stride = call i64 @word(ptr %frame, i64 5)
  %times = call ptr @pointer(ptr %frame, i64 11)
  %skip = mul i64 %me, %stride
  %scratch = getelementptr i8, ptr %scratches, i64 %skip
  %mine = call ptr @block(ptr %pool, i64 %me, i64 $FINISHED)
  %calm = call i64 @word(ptr %pool, i64 1)
  %endurance = call i64 @word(ptr %pool, i64 2)
  %relax = call ptr @pointer(ptr %pool, i64 4)
  %rest = call i64 @word(ptr %pool, i64 7)
  %master = icmp eq i64 %me, 0
  br label %segment

segment:
  %s = phi i64 [ 0, %entry ], [ %s.next, %over ]
  %limit = phi i64 [ %calm, %entry ], [ %limit.next, %over ]
  %bytes = shl i64 %s, 5
  %record = getelementptr i8, ptr %segments, i64 %bytes
  %width = call i64 @word(ptr %record, i64 0)
  %first = call i64 @word(ptr %record, i64 1)
  %shares = call i64 @word(ptr %record, i64 2)
  %target = call i64 @word(ptr %record, i64 3)
  %goal = add i64 %before, %target
  %s.next = add i64 %s, 1
  %e = add i64 %epoch, %s.next
  %serial = icmp eq i64 %width, 0
  br i1 %serial, label %alone, label %share

alone:
  br i1 %master, label %sequence, label %wait
sequence:
  %last = add i64 %first, %shares
  call void @chunks$T(ptr %chunks, i64 %first, i64 %last, ptr %tables, ptr %scratch, ptr %times)
  %f.alone = load atomic i64, ptr %mine monotonic, align 8
  %f.alone.next = add i64 %f.alone, 1
  store atomic i64 %f.alone.next, ptr %mine release, align 8
  br label %over

share:
  %inside = icmp ult i64 %me, %shares
  br i1 %inside, label %own, label %wait
own:
  %c = call i64 @claim(ptr %pool, i64 %me, i64 %e, i64 %width)
  %none = icmp slt i64 %c, 0
  br i1 %none, label %wait, label %work
work:
  %row = mul i64 %me, %width
  %row.c = add i64 %row, %c
  %n = add i64 %first, %row.c
  call void @chunk$T(ptr %chunks, i64 %n, ptr %tables, ptr %scratch, ptr %times)
  %f.own = load atomic i64, ptr %mine monotonic, align 8
  %f.own.next = add i64 %f.own, 1
  store atomic i64 %f.own.next, ptr %mine release, align 8
  br label %own

wait:
  %spins = phi i64 [ 0, %alone ], [ 0, %share ], [ 0, %own ], [ %spins.next, %again ], [ 0, %stolen ]
  %most = phi i64 [ %limit, %alone ], [ %limit, %share ], [ %limit, %own ], [ %most, %again ], [ $WARY, %stolen ]
  %then = phi i64 [ %calm, %alone ], [ %calm, %share ], [ %calm, %own ], [ %then, %again ], [ $WARY, %stolen ]
  %sum = call i64 @finished(ptr %pool, i64 %threads)
  %ready = icmp sge i64 %sum, %goal
  br i1 %ready, label %over, label %idle
idle:
  $PAUSE
  %spins.next = add i64 %spins, 1
  %patient = icmp ult i64 %spins.next, %most
  br i1 %patient, label %again, label %look
look:
  br i1 %serial, label %tire, label %victim
victim:
  %owner = phi i64 [ 0, %look ], [ %owner.next, %other ]
  %stole = call i64 @claim(ptr %pool, i64 %owner, i64 %e, i64 %width)
  %nothing = icmp slt i64 %stole, 0
  br i1 %nothing, label %other, label %stolen
other:
  %owner.next = add i64 %owner, 1
  %others = icmp ult i64 %owner.next, %shares
  br i1 %others, label %victim, label %tire
stolen:
  %row.s = mul i64 %owner, %width
  %row.s.c = add i64 %row.s, %stole
  %n.s = add i64 %first, %row.s.c
  call void @chunk$T(ptr %chunks, i64 %n.s, ptr %tables, ptr %scratch, ptr %times)
  %f.s = load atomic i64, ptr %mine monotonic, align 8
  %f.s.next = add i64 %f.s, 1
  store atomic i64 %f.s.next, ptr %mine release, align 8
  br label %wait
tire:
  %enduring = icmp ult i64 %spins.next, %endurance
  br i1 %enduring, label %again, label %nap
nap:
  %ignored = call i32 %relax(i64 %rest)
  br label %again
again:
  br label %wait

over:
  %limit.next = phi i64 [ %limit, %sequence ], [ %then, %wait ]
  %more = icmp ult i64 %s.next, %count
  br i1 %more, label %segment, label %done
done:
  ret void
}

define void @wengert_run$T(ptr %pool, ptr %frame, ptr %addresses, i64 %threads) {
entry:
  call void @patch(ptr %frame, ptr %addresses)
  %count = call i64 @word(ptr %frame, i64 1)
  %epoch = call i64 @word(ptr %pool, i64 0)
  %epoch.segments = add i64 %epoch, %count
  %epoch.next = add i64 %epoch.segments, 1
  store i64 %epoch.next, ptr %pool
  %before = call i64 @finished(ptr %pool, i64 %threads)
  %post = call ptr @pointer(ptr %pool, i64 6)
  br label %send
send:
  %i = phi i64 [ 1, %entry ], [ %i.next, %sent ]
  %box = call ptr @block(ptr %pool, i64 %i, i64 0)
  %box.frame = getelementptr i64, ptr %box, i64 1
  store ptr %frame, ptr %box.frame
  %box.epoch = getelementptr i64, ptr %box, i64 2
  store i64 %epoch, ptr %box.epoch
  %box.before = getelementptr i64, ptr %box, i64 3
  store i64 %before, ptr %box.before
  %box.threads = getelementptr i64, ptr %box, i64 4
  store i64 %threads, ptr %box.threads
  %box.walk = getelementptr i64, ptr %box, i64 7
  store ptr @walk$T, ptr %box.walk
  store atomic i64 $POSTED, ptr %box seq_cst, align 8
  %box.asleep = getelementptr i64, ptr %box, i64 5
  %asleep = load atomic i64, ptr %box.asleep seq_cst, align 8
  %awake = icmp eq i64 %asleep, 0
  br i1 %awake, label %sent, label %wake
wake:
  %was = atomicrmw xchg ptr %box.asleep, i64 0 seq_cst, align 8
  %woken = icmp eq i64 %was, 0
  br i1 %woken, label %sent, label %signal
signal:
  %handle = call ptr @pointer(ptr %box, i64 6)
  %ignored = call i32 %post(ptr %handle, i64 1, ptr null)
  br label %sent
sent:
  %i.next = add i64 %i, 1
  %others = icmp ult i64 %i.next, %threads
  br i1 %others, label %send, label %go
go:
  call void @walk$T(ptr %pool, ptr %frame, i64 0, i64 %epoch, i64 %before, i64 %threads)
  %endurance = call i64 @word(ptr %pool, i64 2)
  %relax = call ptr @pointer(ptr %pool, i64 4)
  %rest = call i64 @word(ptr %pool, i64 7)
  br label %close
close:
  %j = phi i64 [ 1, %go ], [ %j.next, %closed ]
  %end = call ptr @block(ptr %pool, i64 %j, i64 0)
  %pair = cmpxchg ptr %end, i64 $POSTED, i64 $IDLE seq_cst seq_cst, align 8
  %recalled = extractvalue { i64, i1 } %pair, 1
  br i1 %recalled, label %closed, label %leave
leave:
  %spins = phi i64 [ 0, %close ], [ %spins.next, %leave.again ]
  %state = load atomic i64, ptr %end acquire, align 8
  %left = icmp eq i64 %state, $IDLE
  br i1 %left, label %closed, label %leave.wait
leave.wait:
  $PAUSE
  %spins.next = add i64 %spins, 1
  %enduring = icmp ult i64 %spins.next, %endurance
  br i1 %enduring, label %leave.again, label %nap
nap:
  %ignored.nap = call i32 %relax(i64 %rest)
  br label %leave.again
leave.again:
  br label %leave
closed:
  %j.next = add i64 %j, 1
  %more = icmp ult i64 %j.next, %threads
  br i1 %more, label %close, label %done
done:
  ret void
}
"""

_WORKER = """
define void @wengert_spin(i64 %pauses) {
entry:
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %next, %more ]
  $PAUSE
  %next = add i64 %i, 1
  %go = icmp ult i64 %next, %pauses
  br i1 %go, label %more, label %done
done:
  ret void
}

define void @wengert_worker(ptr %pool, i64 %me) {
entry:
  %box = call ptr @block(ptr %pool, i64 %me, i64 0)
  %box.asleep = getelementptr i64, ptr %box, i64 5
  %wait = call ptr @pointer(ptr %pool, i64 5)
  %limit = call i64 @word(ptr %pool, i64 3)
  br label %look
look:
  %spins = phi i64 [ 0, %entry ], [ %spins.next, %idle ], [ 0, %slept ], [ 0, %take ], [ 0, %left ]
  %state = load atomic i64, ptr %box acquire, align 8
  %posted = icmp eq i64 %state, $POSTED
  br i1 %posted, label %take, label %empty
empty:
  %stop = icmp eq i64 %state, $STOP
  br i1 %stop, label %done, label %idle
idle:
  $PAUSE
  %spins.next = add i64 %spins, 1
  %eager = icmp ult i64 %spins.next, %limit
  br i1 %eager, label %look, label %sleep
sleep:
  store atomic i64 1, ptr %box.asleep seq_cst, align 8
  %again = load atomic i64, ptr %box seq_cst, align 8
  %still = icmp eq i64 %again, $IDLE
  br i1 %still, label %park, label %slept
park:
  %handle = call ptr @pointer(ptr %box, i64 6)
  %ignored = call i32 %wait(ptr %handle, i64 -1)
  br label %slept
slept:
  store atomic i64 0, ptr %box.asleep seq_cst, align 8
  br label %look
take:
  %pair = cmpxchg ptr %box, i64 $POSTED, i64 $TAKEN seq_cst seq_cst, align 8
  %taken = extractvalue { i64, i1 } %pair, 1
  br i1 %taken, label %enter, label %look
enter:
  %frame = call ptr @pointer(ptr %box, i64 1)
  %epoch = call i64 @word(ptr %box, i64 2)
  %before = call i64 @word(ptr %box, i64 3)
  %threads = call i64 @word(ptr %box, i64 4)
  %walk = call ptr @pointer(ptr %box, i64 7)
  call void %walk(ptr %pool, ptr %frame, i64 %me, i64 %epoch, i64 %before, i64 %threads)
  br label %left
left:
  store atomic i64 $IDLE, ptr %box release, align 8
  br label %look
done:
  ret void
}
"""

_BRIEF = """
define ptr @wengert_brief(ptr %self, ptr %nothing) {
  %words = call ptr @words(ptr %self)
  %frame = call ptr @pointer(ptr %words, i64 2)
  %addresses = call ptr @pointer(ptr %words, i64 3)
  %status = call ptr @pointer(ptr %words, i64 4)
  call void @wengert_run_alone(ptr %frame, ptr %addresses)
  %byte = load i8, ptr %status
  %holds = icmp ne i8 %byte, 0
  %answer = call ptr @answer(ptr %words, i1 %holds)
  ret ptr %answer
}
"""

_CHAIN = """
define void @wengert_chain(ptr %tables, i64 %links, i64 %count, ptr %scratch) {
  %chunks = inttoptr i64 %links to ptr
  call void @chunks(ptr %chunks, i64 0, i64 %count, ptr %tables, ptr %scratch, ptr null)
  ret void
}
"""

EXPORTS = ("wengert_spin", "wengert_worker", "wengert_run", "wengert_run_alone", "wengert_brief", "wengert_chain")
TIMED_EXPORTS = ("wengert_clock", "wengert_run_timed", "wengert_run_alone_timed")


def program_loop(target: Target) -> str:
    """Return the LLVM IR of the functions named in EXPORTS, for a processor."""
    declare, pause = _PAUSE[target.architecture]
    parts = [COMMON, CHUNK, _WALK, _WORKER, ANSWER, _BRIEF, _CHAIN]
    return "\n".join([declare, _filled(parts, pause, {"T": "", "BEFORE": "", "AFTER": ""})])


def timed_loop(target: Target) -> str:
    """Return the LLVM IR of those in TIMED_EXPORTS, which add up how long each chunk of work takes."""
    declare_pause, pause = _PAUSE[target.architecture]
    declare_clock, clock, metadata = _CLOCK[target.architecture]
    after = (
        f"%stop = {clock}",
        "  %took = sub i64 %stop, %start",
        "  %time = getelementptr i64, ptr %times, i64 %number",
        "  %before = load i64, ptr %time",
        "  %after = add i64 %before, %took",
        "  store i64 %after, ptr %time",
    )
    words = {"T": "_timed", "CLOCK": clock, "BEFORE": f"%start = {clock}", "AFTER": "\n".join(after)}
    parts = [COMMON, CHUNK, _CLOCK_FUNCTION, _WALK]
    return "\n".join([declare_pause, declare_clock, _filled(parts, pause, words), metadata, ""])


def _filled(parts: Sequence[str], pause: str, words: dict[str, str]) -> str:
    places = {"HEADER": HEADER, "BLOCK": BLOCK, "CLAIM": CLAIM, "FINISHED": FINISHED, "WARY": WARY}
    states = {"IDLE": IDLE, "POSTED": POSTED, "STOP": STOP, "TAKEN": TAKEN}
    return Template("".join(parts)).substitute(places, **states, PAUSE=pause, **words)
