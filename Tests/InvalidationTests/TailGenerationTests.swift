import Invalidation
import Testing

@Suite("The tail's session: generations and clearing what older ones left")
struct TailGenerationTests {
  @Test("the first generation knows everything heard so far, and nothing is confirmed before it stands")
  func first() {
    var tail = Tail(.begin(old: nil, reason: "there is no state"))
    tail.transaction(200, "a")
    #expect(tail.session.confirmable == .zero)
    #expect(tail.next() == newGeneration(101, for: nil, at: 200))
    tail.transaction(300, "b")
    #expect(tail.session.confirmable == .zero)
    #expect(tail.reply(.began) == .began(Generation(101), reason: "there is no state"))
    #expect(tail.session.confirmable == LSN(200))
    let action = tail.next()
    #expect(action == step(101, count: 0, to: 300, beat: 1000, 0..<1))
    #expect(tail.keys(action) == ["b"])
  }

  @Test("a generation found is replaced under its own name")
  func replaced() {
    var tail = Tail(.begin(old: Generation(1), reason: "the slot is new"))
    #expect(tail.next() == newGeneration(101, for: 1, at: 100))
  }

  @Test("TRUNCATE begins a new generation at the end of its transaction; no key of before is sent any more")
  func truncation() {
    var tail = Tail(keysPerStep: 3)
    _ = tail.settle()
    tail.transaction(200, many: 0..<7)
    #expect(tail.next() == step(count: 8, to: 100, fence: 200, parts: 3, 0..<3))
    tail.begin("x")
    tail.session.heard(.doubt(.truncated(table: "public.users")))
    _ = tail.reply(applied: 100)
    // Not before its commit.
    #expect(tail.next() == step(count: 9, to: 100, fence: 200, part: 2, parts: 3, 3..<6))
    tail.commit(300)
    tail.transaction(310, "y")
    tail.begin("z")
    guard case .wait = tail.next() else {
      Issue.record("a second request")
      return
    }
    _ = tail.reply(applied: 100)
    #expect(tail.next() == newGeneration(101, for: 1, at: 310, visible: 297))
    #expect(tail.session.confirmable == LSN(100))
    tail.row(["v"])
    #expect(
      tail.reply(.began) == .began(Generation(101), reason: "table public.users was truncated"))
    #expect(tail.session.confirmable == LSN(297))
    // The namespace is cleared meanwhile.
    _ = tail.settle()
    // The open transaction's keys, each once.
    tail.commit(400)
    tail.pass(milliseconds: 1)
    let action = tail.next()
    #expect(action == step(101, count: 3, to: 400, 0..<2))
    #expect(tail.keys(action) == ["z", "v"])
  }

  @Test("the open transaction keeps a key that an ended one has named too")
  func openRepeats() {
    var tail = Tail()
    _ = tail.settle()
    tail.transaction(200, "a", "b")
    tail.begin("b")
    tail.session.heard(.doubt(.tooManyKeys(limit: 1)))
    _ = tail.next()
    _ = tail.reply(applied: 200, asked: true)
    #expect(tail.next() == newGeneration(101, for: 1, at: 200))
    #expect(tail.session.pending.keys == ["b"])
    _ = tail.reply(.began)
    // Its own doubt still stands, since it ends after the generation's start.
    tail.commit(300)
    tail.pass(milliseconds: 1000)
    #expect(tail.next() == newGeneration(102, for: 101, at: 300))
    #expect(
      tail.reply(.began) == .began(Generation(102), reason: "a transaction changed more than 1 keys"))
  }

  @Test("a doubt that arises while a new generation is under way makes another one")
  func doubtMeanwhile() {
    var tail = Tail()
    _ = tail.settle()
    tail.truncation(200)
    #expect(tail.next() == newGeneration(101, for: 1, at: 200))
    tail.truncation(300)
    tail.transaction(310, "a")
    _ = tail.reply(.began)
    #expect(tail.session.confirmable == LSN(200))
    // One in a second; nothing is told meanwhile.
    #expect(tail.next() == .wait(until: Instant(nanoseconds: 2_000_000_000)))
    tail.pass(milliseconds: 1000)
    #expect(tail.next() == newGeneration(102, for: 101, at: 310))
    _ = tail.reply(.began)
    #expect(tail.session.confirmable == LSN(310))
    #expect(tail.next() == step(102, count: 0, to: 310, beat: 2000, 0..<0))
  }

  @Test("the same while the first generation is under way")
  func doubtDuringTheFirst() {
    var tail = Tail(.begin(old: nil, reason: "there is no state"))
    #expect(tail.next() == newGeneration(101, for: nil, at: 100))
    tail.truncation(300)
    #expect(tail.reply(.began) == .began(Generation(101), reason: "there is no state"))
    tail.pass(milliseconds: 1000)
    #expect(tail.next() == newGeneration(102, for: 101, at: 300))
    #expect(tail.reply(.began) == .began(Generation(102), reason: "table public.users was truncated"))
  }

  @Test("a doubt that is delivered again has had its generation")
  func doubtAgain() {
    var tail = Tail(resuming: 500, confirmed: 100)
    _ = tail.settle()
    tail.truncation(200)
    tail.begin("a")
    tail.session.heard(.doubt(.schemaChanged))
    tail.commit(500)
    #expect(tail.next() == step(count: 8, to: 500, 0..<1))
    _ = tail.reply(applied: 500)
    tail.truncation(501)
    #expect(tail.next() == newGeneration(101, for: 1, at: 501, visible: 501))
  }

  @Test("whoever asks for a new generation gets one, once")
  func asked() {
    var tail = Tail(keysPerStep: 1)
    _ = tail.settle()
    tail.transaction(200, "a", "b")
    _ = tail.next()
    #expect(tail.reply(applied: 100, asked: true) == .goOn)
    #expect(tail.next() == newGeneration(101, for: 1, at: 200))
    #expect(tail.reply(.began) == .began(Generation(101), reason: "NEARSIDE INVALIDATE ALL"))
    #expect(tail.next() == step(101, count: 0, to: 200, beat: 1000, 0..<0))
  }

  // MARK: Clearing

  @Test("a new generation is cleared from cursor 0 to cursor 0, and only then counts as cleared")
  func sweep() {
    var tail = Tail(.begin(old: nil, reason: ""))
    _ = tail.next()
    _ = tail.reply(.began)
    _ = tail.next()
    _ = tail.reply(applied: 100)
    #expect(tail.next() == .send(.purge(check: check(101, 1), cursor: "0")))
    #expect(tail.reply(.purgeStep(cursor: "17", removed: 3)) == .goOn)
    #expect(tail.next() == .wait(until: Instant(nanoseconds: 1_002_000_000)))
    tail.pass(milliseconds: 2)
    #expect(tail.next() == .send(.purge(check: check(101, 2), cursor: "17")))
    #expect(tail.reply(.purgeStep(cursor: "0", removed: 0)) == .goOn)
    #expect(tail.next() == .send(.purged(check: check(101, 3))))
    #expect(tail.reply(.cleared) == .cleared)
    tail.pass(milliseconds: 50)
    #expect(tail.next() == .wait(until: Instant(nanoseconds: 1_100_000_000)))
    tail.pass(milliseconds: 50)
    #expect(tail.next() == step(101, count: 4, to: 100, beat: 1102, 0..<0))
  }

  @Test(
    "a session that finds an uncleared generation clears it from the start; a cleared one it leaves alone")
  func resumedSweep() {
    var uncleared = Tail(cleared: false)
    _ = uncleared.next()
    _ = uncleared.reply(applied: 100)
    #expect(uncleared.next() == .send(.purge(check: check(1, 8), cursor: "0")))
    var cleared = Tail(cleared: true)
    _ = cleared.next()
    _ = cleared.reply(applied: 100)
    guard case .wait = cleared.next() else {
      Issue.record("a clearing step for nothing")
      return
    }
  }

  @Test(
    "a new generation in the midst of clearing begins it anew, and no end of the old one counts",
    arguments: ["17", "0"])
  func sweepBegunAnew(cursor: String) {
    var tail = Tail(cleared: false)
    _ = tail.next()
    _ = tail.reply(applied: 100)
    #expect(tail.next() == .send(.purge(check: check(1, 8), cursor: "0")))
    tail.truncation(200)
    _ = tail.reply(.purgeStep(cursor: cursor, removed: 1))
    #expect(tail.next() == newGeneration(101, for: 1, at: 200))
    _ = tail.reply(.began)
    _ = tail.next()
    _ = tail.reply(applied: 200)
    #expect(tail.next() == .send(.purge(check: check(101, 1), cursor: "0")))
  }

  @Test("a doubt that arises while `purged` is under way is not forgotten")
  func doubtAtTheEnd() {
    var tail = Tail(cleared: false)
    _ = tail.next()
    _ = tail.reply(applied: 100)
    _ = tail.next()
    _ = tail.reply(.purgeStep(cursor: "0", removed: 1))
    #expect(tail.next() == .send(.purged(check: check(1, 9))))
    tail.truncation(200)
    #expect(tail.reply(.cleared) == .cleared)
    #expect(tail.next() == newGeneration(101, for: 1, at: 200))
    _ = tail.reply(.began)
    _ = tail.next()
    _ = tail.reply(applied: 200)
    #expect(tail.next() == .send(.purge(check: check(101, 1), cursor: "0")))
  }

  @Test(
    "clearing gets its turn between two batches, however steady the changes are", arguments: [true, false])
  func sweepUnderLoad(drained: Bool) {
    var tail = Tail(cleared: false, keysPerStep: 3)
    var steps = 0
    var cleared = false
    for number in 0..<60 {
      tail.transaction(200 + UInt64(number), many: 0..<6)
      tail.pass(milliseconds: 5)
      switch tail.next(drained: drained) {
      case .apply(let request, _):
        _ = tail.reply(.applied(W: request.applied, V: request.visible, generationAsked: false))
      case .send(.purge):
        steps += 1
        _ = tail.reply(.purgeStep(cursor: steps == 10 ? "0" : "\(steps)", removed: 0))
      case .send(.purged): cleared = tail.reply(.cleared) == .cleared
      case let other: Issue.record("\(other)")
      }
    }
    #expect(steps == 10)
    #expect(cleared == true)
  }

  // MARK: Endings

  @Test(
    "any answer that does not fit ends the session",
    arguments: [
      (StateReply.fenced, TailSession.Ending.fenced), (.raced, .fenced), (.noState, .noState),
      (.regressed, .regressed), (.cleared, .unexpected), (.otherSystem("1"), .unexpected),
      (.olderTimeline("1"), .unexpected), (.needsGeneration(Generation(1)), .unexpected),
      (.takenOver(taken()), .unexpected),
    ])
  func endings(reply: StateReply, ending: TailSession.Ending) {
    var applying = Tail()
    _ = applying.next()
    #expect(applying.reply(reply) == .over(ending))
    var beginning = Tail(.begin(old: nil, reason: ""))
    _ = beginning.next()
    #expect(beginning.reply(reply) == .over(ending))
    #expect(beginning.session.confirmable == .zero)
    var clearing = Tail(cleared: false)
    _ = clearing.next()
    _ = clearing.reply(applied: 100)
    _ = clearing.next()
    #expect(clearing.reply(reply) == .over(ending))
  }

  @Test("an answer to another question, or to none, ends the session")
  func mismatched() {
    var applying = Tail()
    #expect(applying.reply(.cleared) == .over(.unexpected))
    _ = applying.next()
    #expect(applying.reply(.began) == .over(.unexpected))
    var beginning = Tail(.begin(old: nil, reason: ""))
    _ = beginning.next()
    #expect(beginning.reply(applied: 100) == .over(.unexpected))
    var clearing = Tail(cleared: false)
    _ = clearing.next()
    _ = clearing.reply(applied: 100)
    _ = clearing.next()
    #expect(clearing.reply(.cleared) == .over(.unexpected))
  }

  @Test(
    "W or V that goes back, or a V beyond W, is a state that has lost writes, not a reason to crash",
    arguments: [(w: UInt64(299), v: UInt64(200)), (300, 199), (300, 301)])
  func contradictions(w: UInt64, v: UInt64) {
    var tail = Tail(resuming: 300, visible: 200, confirmed: 100)
    _ = tail.next()
    #expect(
      tail.reply(.applied(W: LSN(w), V: LSN(v), generationAsked: false)) == .over(.regressed))
    #expect(tail.session.confirmable <= LSN(200))
  }
}
