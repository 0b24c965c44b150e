"""LLVM IR of what the native loop is made of, as templates: what `program_loop` puts together."""

from __future__ import annotations

COMMON = """
define internal i64 @word(ptr %from, i64 %number) alwaysinline {
  %place = getelementptr i64, ptr %from, i64 %number
  %value = load i64, ptr %place
  ret i64 %value
}

define internal ptr @pointer(ptr %from, i64 %number) alwaysinline {
  %place = getelementptr i64, ptr %from, i64 %number
  %value = load ptr, ptr %place
  ret ptr %value
}

define internal ptr @block(ptr %pool, i64 %thread, i64 %offset) alwaysinline {
  %before = mul i64 %thread, $BLOCK
  %inside = add i64 %offset, $HEADER
  %total = add i64 %before, %inside
  %place = getelementptr i8, ptr %pool, i64 %total
  ret ptr %place
}

define internal void @patch(ptr %frame, ptr %addresses) {
entry:
  %tables = call ptr @pointer(ptr %frame, i64 3)
  %patches = call ptr @pointer(ptr %frame, i64 6)
  %index = call ptr @pointer(ptr %frame, i64 7)
  %bases = call i64 @word(ptr %frame, i64 8)
  %known = call ptr @pointer(ptr %frame, i64 9)
  %arena = call i64 @word(ptr %frame, i64 10)
  br label %base
base:
  %b = phi i64 [ 0, %entry ], [ %b.next, %base.done ]
  %value = phi i64 [ %arena, %entry ], [ %value.next, %base.done ]
  %seen.place = getelementptr i64, ptr %known, i64 %b
  %seen = load i64, ptr %seen.place
  %same = icmp eq i64 %seen, %value
  br i1 %same, label %base.next, label %changed
changed:
  store i64 %value, ptr %seen.place
  %k.first = call i64 @word(ptr %index, i64 %b)
  %b.after = add i64 %b, 1
  %k.end = call i64 @word(ptr %index, i64 %b.after)
  br label %slot
slot:
  %k = phi i64 [ %k.first, %changed ], [ %k.next, %slot.set ]
  %some = icmp ult i64 %k, %k.end
  br i1 %some, label %slot.set, label %base.next
slot.set:
  %pair = shl i64 %k, 1
  %pair.second = or i64 %pair, 1
  %number = call i64 @word(ptr %patches, i64 %pair)
  %offset = call i64 @word(ptr %patches, i64 %pair.second)
  %address = add i64 %value, %offset
  %place = getelementptr i64, ptr %tables, i64 %number
  store i64 %address, ptr %place
  %k.next = add i64 %k, 1
  br label %slot
base.next:
  %b.next = add i64 %b, 1
  %more = icmp ult i64 %b.next, %bases
  br i1 %more, label %base.done, label %done
base.done:
  %value.next = call i64 @word(ptr %addresses, i64 %b)
  br label %base
done:
  ret void
}

define internal i64 @finished(ptr %pool, i64 %threads) {
entry:
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %next, %more ]
  %sum = phi i64 [ 0, %entry ], [ %sum.next, %more ]
  %place = call ptr @block(ptr %pool, i64 %i, i64 $FINISHED)
  %value = load atomic i64, ptr %place acquire, align 8
  %sum.next = add i64 %sum, %value
  %next = add i64 %i, 1
  %go = icmp ult i64 %next, %threads
  br i1 %go, label %more, label %done
done:
  ret i64 %sum.next
}

define internal i64 @claim(ptr %pool, i64 %owner, i64 %epoch, i64 %width) {
entry:
  %place = call ptr @block(ptr %pool, i64 %owner, i64 $CLAIM)
  %first = load atomic i64, ptr %place monotonic, align 8
  br label %try
try:
  %word = phi i64 [ %first, %entry ], [ %seen, %take ]
  %of = lshr i64 %word, 12
  %newer = icmp ugt i64 %of, %epoch
  br i1 %newer, label %none, label %current
current:
  %same = icmp eq i64 %of, %epoch
  %low = and i64 %word, 4095
  %next = select i1 %same, i64 %low, i64 0
  %left = icmp ult i64 %next, %width
  br i1 %left, label %take, label %none
take:
  %high = shl i64 %epoch, 12
  %claimed = add i64 %next, 1
  %new = or i64 %high, %claimed
  %pair = cmpxchg ptr %place, i64 %word, i64 %new acq_rel monotonic, align 8
  %seen = extractvalue { i64, i1 } %pair, 0
  %done = extractvalue { i64, i1 } %pair, 1
  br i1 %done, label %got, label %try
got:
  ret i64 %next
none:
  ret i64 -1
}
"""
"""Reads of tables; the frame's addresses (externals that moved are patched in); counters and claims of the pool."""

CHUNK = """
define internal void @chunk$T(ptr %chunks, i64 %number, ptr %tables, ptr %scratch, ptr %times) alwaysinline {
  %bytes = shl i64 %number, 5
  %record = getelementptr i8, ptr %chunks, i64 %bytes
  %function = call ptr @pointer(ptr %record, i64 0)
  %offset = call i64 @word(ptr %record, i64 1)
  %begin = call i64 @word(ptr %record, i64 2)
  %end = call i64 @word(ptr %record, i64 3)
  %operands = getelementptr i8, ptr %tables, i64 %offset
  $BEFORE
  call void %function(ptr %operands, i64 %begin, i64 %end, ptr %scratch)
  $AFTER
  ret void
}

define internal void @chunks$T(ptr %chunks, i64 %first, i64 %end, ptr %tables, ptr %scratch, ptr %times) alwaysinline {
entry:
  %none = icmp uge i64 %first, %end
  br i1 %none, label %done, label %more
more:
  %i = phi i64 [ %first, %entry ], [ %next, %more ]
  call void @chunk$T(ptr %chunks, i64 %i, ptr %tables, ptr %scratch, ptr %times)
  %next = add i64 %i, 1
  %go = icmp ult i64 %next, %end
  br i1 %go, label %more, label %done
done:
  ret void
}

define void @wengert_run_alone$T(ptr %frame, ptr %addresses) {
  call void @patch(ptr %frame, ptr %addresses)
  %tables = call ptr @pointer(ptr %frame, i64 3)
  %scratch = call ptr @pointer(ptr %frame, i64 4)
  %chunks = call ptr @pointer(ptr %frame, i64 12)
  %count = call i64 @word(ptr %frame, i64 13)
  %times = call ptr @pointer(ptr %frame, i64 14)
  call void @chunks$T(ptr %chunks, i64 0, i64 %count, ptr %tables, ptr %scratch, ptr %times)
  ret void
}
"""
"""One chunk of work, several in sequence, and a whole program of them on the calling thread."""
