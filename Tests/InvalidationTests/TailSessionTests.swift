import Invalidation
import Testing

@Suite("The tail's session: clearing")
struct TailSessionTests {
  @Test("a session that goes on begins with a beat at the position of the state")
  func firstBeat() {
    var tail = Tail(resuming: 300, confirmed: 100)
    #expect(tail.next() == step(to: 300, beat: 1000, 0..<0))
    #expect(tail.session.confirmable == LSN(100))
    #expect(tail.reply(applied: 300) == .goOn)
    #expect(tail.next() == .wait(until: Instant(nanoseconds: tail.now.nanoseconds + 100_000_000)))
  }

  @Test("keys go at once when the log has nothing more, and W goes with them")
  func keys() {
    var tail = Tail()
    _ = tail.settle()
    tail.transaction(200, "a", "b")
    tail.transaction(210, "a")
    let action = tail.next()
    #expect(action == step(count: 8, to: 210, 0..<2))
    #expect(tail.keys(action) == ["a", "b"])
    #expect(tail.session.confirmable == LSN(100))
    #expect(tail.reply(applied: 210) == .goOn)
    #expect(tail.session.confirmable == LSN(210))
    #expect(tail.session.transactions == 2)
  }

  @Test("one request at a time: what is heard meanwhile goes with the next one")
  func oneAtATime() {
    var tail = Tail()
    _ = tail.settle()
    tail.transaction(200, "a")
    #expect(tail.next() == step(count: 8, to: 200, 0..<1))
    tail.transaction(220, "b", "a")
    guard case .wait = tail.next() else {
      Issue.record("a second request")
      return
    }
    _ = tail.reply(applied: 200)
    let action = tail.next()
    // Looks come a millisecond apart, so the second commit is not known to be visible yet.
    #expect(action == step(count: 9, to: 220, visible: 217, 0..<2))
    #expect(tail.keys(action) == ["b", "a"])
  }

  @Test(
    "while the log has more, keys wait for a full step, a beat or 20 ms",
    arguments: [(keys: 2, milliseconds: 0, goes: false), (3, 0, true), (2, 19, false), (2, 20, true)])
  func gathering(keys: Int, milliseconds: UInt64, goes: Bool) {
    var tail = Tail(keysPerStep: 3)
    _ = tail.settle()
    tail.transaction(200, many: 0..<keys)
    tail.pass(milliseconds: milliseconds)
    let action = tail.next(drained: false)
    if goes {
      #expect(action == step(count: 8, to: 200, 0..<keys))
    } else {
      #expect(action == .wait(until: Instant(nanoseconds: 1_020_000_000)))
    }
  }

  @Test(
    "a batch goes in steps, of which only the last moves W and V, under the fence of its end",
    arguments: [(keys: 0, parts: [0..<0]), (3, [0..<3]), (4, [0..<3, 3..<4]), (6, [0..<3, 3..<6])])
  func steps(keys: Int, parts: [Range<Int>]) {
    var tail = Tail(keysPerStep: 3)
    _ = tail.settle()
    tail.transaction(200, many: 0..<keys)
    tail.pass(milliseconds: 100)
    for (index, chunk) in parts.enumerated() {
      let last = index == parts.count - 1
      #expect(
        tail.next()
          == step(
            count: UInt64(8 + index), to: last ? 200 : 100, fence: 200, beat: last ? 1100 : nil,
            part: index + 1,
            parts: parts.count, chunk))
      #expect(tail.session.confirmable == LSN(100))
      #expect(tail.reply(applied: last ? 200 : 100) == .goOn)
    }
    #expect(tail.session.confirmable == LSN(200))
    #expect(tail.session.sending.isEmpty == true)
  }

  @Test("keys of the transaction in progress stay behind, those that an ended one named too")
  func open() {
    var tail = Tail()
    _ = tail.settle()
    tail.transaction(200, "a", "b")
    tail.begin("b", "c")
    let first = tail.next()
    #expect(tail.keys(first) == ["a", "b"])
    #expect(first == step(count: 8, to: 200, 0..<2))
    _ = tail.reply(applied: 200)
    tail.row(["d"])
    tail.pass(milliseconds: 100)
    tail.written = 250
    guard case .wait = tail.next() else {
      Issue.record("a beat although the log has not been read up to its sample")
      return
    }
    tail.commit(300)
    let second = tail.next()
    #expect(second == step(count: 9, to: 300, beat: 1100, 0..<3))
    #expect(tail.keys(second) == ["b", "c", "d"])
  }

  @Test(
    "a beat waits for everything that was written before its sample; what is applied meanwhile is no beat")
  func beatWaits() {
    var tail = Tail(keysPerStep: 3)
    _ = tail.settle()
    tail.pass(milliseconds: 100)
    tail.written = 260
    guard case .wait(let until) = tail.next(drained: false) else {
      Issue.record("a beat before its time")
      return
    }
    #expect(until > tail.now)
    tail.pass(milliseconds: 50)
    tail.transaction(200, many: 0..<3)
    #expect(tail.next(drained: false) == step(count: 8, to: 200, 0..<3))
    tail.transaction(260, many: 3..<6)
    tail.pass(milliseconds: 1)
    _ = tail.reply(applied: 200)
    #expect(tail.next(drained: false) == step(count: 9, to: 260, beat: 1100, 0..<3))
  }

  @Test("a position named inside a transaction is not believed, one between transactions is")
  func keepalive() {
    var tail = Tail()
    _ = tail.settle()
    tail.begin("a")
    tail.session.heardKeepalive(LSN(900))
    #expect(tail.session.position == LSN(100))
    tail.commit(200)
    tail.session.heardKeepalive(LSN(190))
    #expect(tail.session.position == LSN(200))
    tail.session.heardKeepalive(LSN(250))
    #expect(tail.next() == step(count: 8, to: 250, 0..<1))
    #expect(tail.session.confirmable == LSN(100))
    _ = tail.reply(applied: 250)
    #expect(tail.session.confirmable == LSN(250))
  }

  @Test("a position without keys is stored after 20 ms, and without news only the beats go")
  func idle() {
    var tail = Tail()
    _ = tail.settle()
    tail.session.heardKeepalive(LSN(150))
    #expect(tail.next() == .wait(until: Instant(nanoseconds: 1_020_000_000)))
    tail.pass(milliseconds: 20)
    #expect(tail.next() == step(count: 8, to: 150, 0..<0))
    _ = tail.reply(applied: 150)
    #expect(tail.next() == .wait(until: Instant(nanoseconds: 1_100_000_000)))
    tail.pass(milliseconds: 80)
    #expect(tail.next() == step(count: 9, to: 150, beat: 1100, 0..<0))
  }

  @Test("what is delivered again is cleared again, and neither W nor the fence goes below the state's W")
  func redelivery() {
    var tail = Tail(resuming: 500, confirmed: 100)
    _ = tail.settle()
    tail.transaction(200, "a")
    #expect(tail.next() == step(count: 8, to: 500, 0..<1))
    _ = tail.reply(applied: 500)
    // V is 500, but the stream has been read up to 200 only.
    #expect(tail.session.confirmable == LSN(200))
    tail.transaction(600, "b")
    #expect(tail.next() == step(count: 9, to: 600, 0..<1))
    _ = tail.reply(applied: 600)
    #expect(tail.session.confirmable == LSN(600))
  }

  @Test("the log's reader pauses when many ended keys wait, never for those of an open transaction")
  func full() {
    var tail = Tail(keysPerStep: 3, mostPending: 6)
    _ = tail.settle()
    tail.begin((0..<9).map { "open\($0)" })
    #expect(tail.session.isFull == false)
    tail.commit(200)
    #expect(tail.session.isFull == true)
    #expect(tail.next(drained: false) == step(count: 8, to: 100, fence: 200, parts: 3, 0..<3))
    #expect(tail.session.isFull == false)
    tail.transaction(300, many: 0..<6)
    #expect(tail.session.isFull == true)
    // Nothing more is read now, and still everything goes out.
    for applied: UInt64 in [100, 100, 200, 200] {
      _ = tail.reply(applied: applied)
      _ = tail.next(drained: false)
    }
    #expect(tail.session.isFull == false)
    _ = tail.reply(applied: 300)
    #expect(tail.session.confirmable == LSN(300))
  }

  @Test("one large transaction: no beat before all of it is applied, nothing in between, then beats as ever")
  func large() {
    var tail = Tail(cleared: false)
    _ = tail.next()
    _ = tail.reply(applied: 100)
    #expect(tail.next() == .send(.purge(check: check(1, 8), cursor: "0")))
    _ = tail.reply(.purgeStep(cursor: "5", removed: 0))
    tail.transaction(200, many: 0..<100_000)
    let start = tail.now
    var beats: [UInt64] = []
    for part in 1...100 {
      guard case .apply(let request, let chunk) = tail.next() else {
        Issue.record("something else than step \(part)")
        return
      }
      #expect((request.sampled != nil) == (part == 100))
      #expect((request.part, request.parts, chunk.count) == (part, 100, 1000))
      tail.pass(milliseconds: 4)
      if request.sampled != nil { beats.append(tail.now.since(start)) }
      _ = tail.reply(.applied(W: request.applied, V: request.visible, generationAsked: false))
    }
    while beats.count < 3 {
      for action in tail.settle() {
        if case .apply(let request, _) = action, request.sampled != nil {
          beats.append(tail.now.since(start))
        }
      }
      tail.pass(milliseconds: 1)
    }
    // The second beat after the transaction is what makes evidence young again: well within two seconds.
    #expect(beats[0] == 400_000_000)
    #expect(beats[1] <= 500_000_000)
    #expect(beats[2] <= 600_000_000)
  }

  @Test("steady changes do not keep a beat from going")
  func beatsUnderLoad() {
    var tail = Tail(keysPerStep: 3)
    var beats = 0
    for number in 0..<100 {
      tail.transaction(200 + UInt64(number), many: 0..<6)
      tail.pass(milliseconds: 10)
      if case .apply(let request, _) = tail.next(drained: number % 7 == 0) {
        if request.sampled != nil { beats += 1 }
        _ = tail.reply(.applied(W: request.applied, V: request.visible, generationAsked: false))
      }
    }
    #expect((8...11).contains(beats))
  }
}
