import Testing

@testable import Invalidation

@Suite("Visibility: snapshots and commits that are not seen yet")
struct VisibilityTests {
  @Test(
    "a snapshot's text",
    arguments: [
      ("10:10:", Snapshot(next: 10, running: [])), ("8:12:8,11", Snapshot(next: 12, running: [8, 11])),
      ("4294967300:4294967310:4294967300", Snapshot(next: 4_294_967_310, running: [4_294_967_300])),
      ("", nil), ("10:10", nil), ("a:10:", nil), ("8:12:13", nil), ("8:12:11,8", nil), ("8:12:x", nil),
    ] as [(String, Snapshot?)])
  func text(text: String, expected: Snapshot?) {
    #expect(Snapshot(text) == expected)
  }

  @Test("a snapshot sees what has ended, by 32 bits too, also where they come round")
  func sees() {
    let snapshot = Snapshot(next: 20, running: [5, 9, 17])
    for id in 0..<30 as Range<UInt64> {
      let expected = id < 20 && ![5, 9, 17].contains(id)
      #expect(snapshot.sees(full: id) == expected)
      if id > 0 { #expect(snapshot.sees(UInt32(id)) == expected) }
    }
    let late = Snapshot(next: (1 << 32) + 4, running: [(1 << 32) - 2, (1 << 32) + 3])
    #expect(late.sees(UInt32.max) == true)
    #expect(late.sees(UInt32.max - 1) == false)
    #expect(late.sees(3) == false)
    #expect(late.sees(2) == true)
    #expect(late.sees(4) == false)
    #expect(late.sees(5) == false)
  }

  @Test(
    "V lies at the beginning of the first commit's record that is not seen, in whatever order they become visible"
  )
  func pending() {
    var pending = PendingCommits()
    #expect(pending.visible(at: LSN(500)) == LSN(500))
    for (id, end) in [(7, 100), (8, 200), (9, 300)] as [(UInt32, UInt64)] {
      pending.decoded(Commit(transaction: id, record: LSN(end - 3), end: LSN(end), committedAt: 0))
    }
    #expect(pending.visible(at: LSN(500)) == LSN(97))
    pending.judge(Snapshot(next: 10, running: [7, 9]))
    #expect(pending.visible(at: LSN(500)) == LSN(97))
    pending.judge(Snapshot(next: 10, running: [9]))
    #expect(pending.visible(at: LSN(500)) == LSN(297))
    pending.judge(Snapshot(next: 10, running: []))
    #expect(pending.visible(at: LSN(500)) == LSN(500))
  }
}

@Suite("The tail's session: what PostgreSQL says by SQL")
struct TailQuestionTests {
  @Test("W goes at once; V follows, by itself, when the commit has become visible; only V is confirmed")
  func late() {
    var tail = Tail()
    _ = tail.settle()
    tail.invisible = [7]
    tail.transaction(200, id: 7, "a")
    #expect(tail.next() == step(count: 8, to: 200, visible: 197, 0..<1))
    _ = tail.reply(.applied(W: LSN(200), V: LSN(197), generationAsked: false))
    // Not into its record, or the next tailer would never be told of it.
    #expect(tail.session.confirmable == LSN(197))
    tail.pass(milliseconds: 1)
    guard case .wait(let until) = tail.next() else {
      Issue.record("something was sent although nothing has changed")
      return
    }
    #expect(until.since(tail.now) <= 2_000_000)
    tail.invisible = []
    tail.pass(milliseconds: 1)
    #expect(tail.next() == step(count: 9, to: 200, 0..<0))
    _ = tail.reply(applied: 200)
    #expect(tail.session.confirmable == LSN(200))
    #expect(tail.next() == .wait(until: Instant(nanoseconds: 1_100_000_000)))
  }

  @Test("a commit that stays invisible holds back V and what may be forgotten, and nothing else")
  func stuck() {
    var tail = Tail()
    _ = tail.settle()
    tail.invisible = [7]
    tail.transaction(200, id: 7, "a")
    _ = tail.settle()
    tail.transaction(300, id: 8, "b")
    let action = tail.next()
    #expect(action == step(count: 9, to: 300, visible: 197, 0..<1))
    _ = tail.reply(.applied(W: LSN(300), V: LSN(197), generationAsked: false))
    tail.pass(milliseconds: 100)
    #expect(tail.next() == step(count: 10, to: 300, visible: 197, beat: 1100, 0..<0))
    _ = tail.reply(.applied(W: LSN(300), V: LSN(197), generationAsked: false))
    #expect(tail.session.confirmable == LSN(197))
    // Looking grows rare, but does not end.
    for _ in 0..<200 {
      tail.pass(milliseconds: 1)
      _ = tail.settle()
    }
    let before = tail.questions.count { $0 == .look }
    for _ in 0..<100 {
      tail.pass(milliseconds: 1)
      _ = tail.settle()
    }
    let looks = tail.questions.count { $0 == .look } - before
    #expect((4...8).contains(looks))
  }

  @Test("of two commits the earlier one becomes visible last: V waits for it")
  func otherOrder() {
    var tail = Tail()
    _ = tail.settle()
    tail.invisible = [7, 8]
    tail.transaction(200, id: 7, "a")
    tail.transaction(300, id: 8, "b")
    #expect(tail.next() == step(count: 8, to: 300, visible: 197, 0..<2))
    _ = tail.reply(.applied(W: LSN(300), V: LSN(197), generationAsked: false))
    tail.invisible = [7]
    tail.pass(milliseconds: 5)
    guard case .wait = tail.next() else {
      Issue.record("V moved beyond an invisible commit")
      return
    }
    tail.invisible = []
    tail.pass(milliseconds: 5)
    #expect(tail.next() == step(count: 9, to: 300, 0..<0))
  }

  @Test("a transaction that concerns no key holds nothing back")
  func foreign() {
    var tail = Tail()
    _ = tail.settle()
    tail.invisible = [7]
    tail.transaction(200, id: 7)
    tail.pass(milliseconds: 20)
    #expect(tail.next() == step(count: 8, to: 200, 0..<0))
  }

  @Test("a generation that begins over an invisible commit gives leases from V, and its floor is W")
  func beginsOverInvisible() {
    var tail = Tail()
    _ = tail.settle()
    tail.invisible = [7]
    tail.begin("a")
    tail.session.heard(.doubt(.truncated(table: "public.users")))
    tail.commit(200, id: 7)
    #expect(tail.next() == newGeneration(101, for: 1, at: 200, visible: 197))
    _ = tail.reply(.began)
    #expect(tail.session.confirmable == LSN(197))
    let first = tail.next()
    #expect(first == step(101, count: 0, to: 200, visible: 197, beat: 1000, 0..<0))
  }

  // MARK: Beats

  @Test("no sample before the beat before it is stored, and none that was taken under an older generation")
  func order() {
    var tail = Tail()
    #expect(tail.next() == step(to: 100, beat: 1000, 0..<0))
    tail.pass(milliseconds: 300)
    #expect(tail.session.ask(now: tail.now, drained: true) == nil)
    _ = tail.reply(applied: 100)
    let question = tail.session.ask(now: tail.now, drained: true)
    #expect(question == .sample(watched: []))
    // A generation begins between the question and its answer.
    tail.truncation(200)
    _ = tail.next()
    tail.canary = .some(Generation(1))
    if let question { tail.session.answered(tail.answer(question), now: tail.now) }
    _ = tail.reply(.began)
    tail.canary = nil
    #expect(tail.next() == step(101, count: 0, to: 200, beat: 1300, 0..<0))
  }

  @Test("a position that is written and not sent is pushed, after 20 ms and then every 50")
  func nudge() {
    var tail = Tail()
    _ = tail.settle()
    tail.written = 900
    tail.pass(milliseconds: 100)
    for _ in 0..<140 {
      _ = tail.settle()
      tail.pass(milliseconds: 1)
    }
    #expect(tail.questions.count { $0 == .nudge } == 3)
    // While the log is still arriving there is no point in it.
    for _ in 0..<100 {
      _ = tail.settle(drained: false)
      tail.pass(milliseconds: 1)
    }
    #expect(tail.questions.count { $0 == .nudge } == 3)
    tail.session.heardKeepalive(LSN(900))
    #expect(tail.next() == step(count: 8, to: 900, beat: 1100, 0..<0))
  }

  // MARK: The canary

  @Test("the canary is written after a generation has begun, and no beat goes before that")
  func mark() {
    var tail = Tail(.begin(old: nil, reason: ""))
    tail.answers = false
    _ = tail.next()
    #expect(tail.session.ask(now: tail.now, drained: true) == nil)
    _ = tail.reply(.began)
    #expect(tail.session.ask(now: tail.now, drained: true) == .mark(Generation(101)))
    guard case .send(.purge) = tail.next() else {
      Issue.record("a beat before the canary is written")
      return
    }
    tail.session.answered(.marked, now: tail.now)
    #expect(tail.session.ask(now: tail.now, drained: true) == .sample(watched: []))
  }

  @Test("while another generation is being stored the canary is left alone, and is written afterwards")
  func markOnce() {
    var tail = Tail(.begin(old: nil, reason: ""))
    tail.answers = false
    _ = tail.next()
    _ = tail.reply(.began)
    tail.truncation(200)
    tail.pass(milliseconds: 1000)
    _ = tail.next()
    #expect(tail.session.isBeginning == true)
    tail.answers = true
    tail.converse()
    tail.answers = false
    #expect(!tail.questions.contains(.mark(Generation(101))))
    _ = tail.reply(.began)
    #expect(tail.session.ask(now: tail.now, drained: true) == .mark(Generation(102)))
  }

  @Test("an empty canary, or another one, begins a new generation", arguments: [nil, Generation(9)])
  func canary(found: Generation?) {
    var tail = Tail()
    _ = tail.settle()
    tail.canary = .some(found)
    tail.pass(milliseconds: 100)
    #expect(tail.next() == newGeneration(101, for: 1, at: 100))
    #expect(
      tail.reply(.began)
        == .began(
          Generation(101),
          reason: "PostgreSQL has crashed, failed over or been restored: commits may be lost"))
  }

  @Test("without a canary there is none to write or to compare")
  func noCanary() {
    var tail = Tail(.begin(old: nil, reason: ""), usesCanary: false)
    tail.canary = .some(nil)
    _ = tail.next()
    _ = tail.reply(.began)
    #expect(tail.next() == step(101, count: 0, to: 100, beat: 1000, 0..<0))
    #expect(!tail.questions.contains(.mark(Generation(101))))
  }

  // MARK: The watch

  @Test(
    "who was running when the slot was taken is watched until it has ended",
    arguments: [TransactionStatus.aborted, .committed])
  func watch(status: TransactionStatus) {
    var tail = Tail(.begin(old: nil, reason: ""), running: [7])
    tail.invisible = [7]
    #expect(tail.next() == newGeneration(101, for: nil, at: 100, watching: true))
    _ = tail.reply(.began)
    #expect(tail.next() == step(101, count: 0, to: 100, beat: 1000, 0..<0))
    _ = tail.reply(applied: 100)
    _ = tail.settle()
    #expect(tail.questions.contains(.sample(watched: [7])))
    tail.statuses[7] = status
    tail.pass(milliseconds: 1000)
    if status == .committed {
      // The statement's snapshot may be from before the end: then the log may still tell of it.
      guard case .apply(let request, _) = tail.next() else {
        Issue.record("no beat")
        return
      }
      #expect(request.stopsWatching == false)
      _ = tail.reply(applied: 100)
      tail.invisible = []
      tail.pass(milliseconds: 100)
      // Invisible and never sent: whoever read before has the old row. Nothing is left to be watched.
      #expect(tail.next() == newGeneration(102, for: 101, at: 100))
    } else {
      #expect(tail.next() == step(101, count: 3, to: 100, beat: 2000, stopsWatching: true, 0..<0))
      _ = tail.reply(applied: 100)
      tail.pass(milliseconds: 100)
      #expect(tail.next() == step(101, count: 4, to: 100, beat: 2100, 0..<0))
    }
  }

  @Test("one that the slot sends after all is nobody's secret")
  func watchedAndSent() {
    var tail = Tail(.begin(old: nil, reason: ""), running: [7])
    tail.invisible = [7]
    _ = tail.next()
    _ = tail.reply(.began)
    _ = tail.settle()
    tail.invisible = []
    tail.statuses[7] = .committed
    tail.written = 200
    tail.pass(milliseconds: 100)
    // Its end is known by SQL before the log tells of it.
    guard case .wait = tail.next() else {
      Issue.record("judged before the log was read")
      return
    }
    tail.transaction(200, id: 7, "a")
    #expect(
      tail.next() == step(101, count: 3, to: 200, beat: 1100, stopsWatching: true, 0..<1))
  }

  // MARK: Definitions

  @Test("other definitions, by fingerprint or by the log, begin a new generation and end the session")
  func redefined() {
    for byLog in [true, false] {
      var tail = Tail()
      _ = tail.settle()
      if byLog {
        tail.begin()
        tail.session.heard(.doubt(.schemaChanged))
        tail.commit(200)
        tail.fingerprint = "other"
      } else {
        tail.fingerprint = "other"
        tail.session.heardKeepalive(LSN(200))
        tail.pass(milliseconds: 1000)
      }
      // It remembers the definitions that are so now.
      #expect(
        tail.next()
          == newGeneration(101, for: 1, at: 200, fingerprint: "other"))
      _ = tail.reply(.began)
      // That one is for the next session.
      tail.truncation(300)
      #expect(tail.next() == .end(.redefined))
      #expect(tail.questions.contains(.mark(Generation(101))))
    }
  }
}

@Suite("A walsender that nobody reads from")
struct StandstillTests {
  private func at(_ seconds: UInt64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }
  private func holder(_ walsender: Int32, _ answered: String) -> Standstill.Holder {
    Standstill.Holder(walsender: walsender, answered: answered)
  }

  @Test("five seconds without a beat, under the same walsender, without an answer of its client")
  func patience() {
    var standstill = Standstill()
    let state = (generation: Generation(1), beats: UInt64(5))
    #expect(standstill.heard(holder(7, "a"), state: state, now: at(10)) == false)
    #expect(standstill.heard(holder(7, "a"), state: state, now: at(14)) == false)
    #expect(standstill.heard(holder(7, "a"), state: state, now: at(15)) == true)
    // Its client answers, a beat comes, another walsender, another generation, no state at all.
    #expect(standstill.heard(holder(8, "a"), state: state, now: at(16)) == false)
    #expect(standstill.heard(holder(8, "b"), state: state, now: at(27)) == false)
    #expect(standstill.heard(holder(8, "b"), state: (Generation(1), 6), now: at(33)) == false)
    #expect(standstill.heard(holder(8, "b"), state: (Generation(2), 6), now: at(39)) == false)
    #expect(standstill.heard(holder(8, "b"), state: nil, now: at(45)) == false)
    #expect(standstill.heard(holder(8, "b"), state: nil, now: at(50)) == true)
    standstill.forget()
    #expect(standstill.heard(holder(8, "b"), state: nil, now: at(56)) == false)
  }

  @Test("patience doubles each time, until a beat is seen")
  func doubles() {
    var standstill = Standstill()
    let state = (generation: Generation(1), beats: UInt64(5))
    _ = standstill.heard(holder(7, "a"), state: state, now: at(0))
    #expect(standstill.heard(holder(7, "a"), state: state, now: at(5)) == true)
    _ = standstill.heard(holder(8, "b"), state: state, now: at(6))
    #expect(standstill.heard(holder(8, "b"), state: state, now: at(15)) == false)
    #expect(standstill.heard(holder(8, "b"), state: state, now: at(16)) == true)
    _ = standstill.heard(holder(9, "c"), state: (Generation(1), 6), now: at(17))
    #expect(standstill.heard(holder(9, "c"), state: (Generation(1), 6), now: at(22)) == true)
  }
}
