import Invalidation
import Testing

@Suite("The tail's session: groups and their sweeps")
struct SweepTests {
  private func pending(_ entries: (group: String, id: String)...) -> PendingGroups {
    var packed = PackedKeys()
    for name in entries.flatMap({ [$0.group, $0.id] }) {
      Array(name.utf8).withUnsafeBytes { packed.append($0) }
    }
    return PendingGroups(bytes: packed.bytes) ?? PendingGroups()
  }

  private func applied(_ end: UInt64, _ pending: PendingGroups) -> StateReply {
    .applied(W: LSN(end), V: LSN(end), generationAsked: false, pending: pending)
  }

  @Test("Groups go in steps of their own size beside the keys, and only the last step moves W")
  func steps() {
    var tail = Tail(keysPerStep: 3, groupsPerStep: 2)
    _ = tail.settle()
    tail.begin((0..<4).map { "k\($0)" })
    for group in ["pa", "pb", "tc", "td", "te"] {
      Array(group.utf8).withUnsafeBytes { tail.session.pending.append(group: $0, table: 0) }
    }
    tail.commit(200)
    var requests: [ApplyRequest] = []
    for _ in 0..<3 {
      guard case .apply(let request, _) = tail.next() else { break }
      requests.append(request)
      _ = tail.reply(applied(request.applied.rawValue, PendingGroups()))
    }
    #expect(requests.map(\.groups) == [0..<2, 2..<4, 4..<5])
    #expect(requests.map(\.applied.rawValue) == [100, 100, 200])
    #expect(requests.map(\.fence.rawValue) == [200, 200, 200])
    #expect(requests.map(\.part) == [1, 2, 3])
    #expect(requests.map(\.parts) == [3, 3, 3])
  }

  @Test("A transaction with groups alone is sent at once, and is awaited by V like any other")
  func groupsAlone() {
    var tail = Tail()
    _ = tail.settle()
    tail.transaction(200, groups: ["pa"])
    guard case .apply(let request, let chunk) = tail.next() else {
      Issue.record("no step")
      return
    }
    #expect(request.groups == 0..<1 && chunk.isEmpty)
  }

  @Test(
    "What a reply tells is pending is swept from cursor 0, and what was pending then is taken out at the end")
  func pass() {
    var tail = Tail()
    _ = tail.settle()
    let waiting = pending(("pa", "1-0"), ("tb", "2-0"))
    tail.transaction(200, groups: ["pa", "tb"])
    _ = tail.next()
    let tells = tail.tells
    #expect(tells)
    _ = tail.reply(applied(200, waiting))
    guard case .send(.sweep(_, let first, let groups)) = tail.next() else {
      Issue.record("no sweep")
      return
    }
    #expect(first == "0" && groups == waiting.groups)
    _ = tail.reply(.purgeStep(cursor: "17", removed: 0))
    // A batch in between enters another group: this pass does not clear it, and the step does not ask.
    tail.transaction(300, groups: ["pc"])
    guard case .apply = tail.next() else {
      Issue.record("no batch")
      return
    }
    let asks = tail.tells
    #expect(!asks)
    _ = tail.reply(applied(300, pending(("pc", "3-0"))))
    tail.pass(milliseconds: 3)
    guard case .send(.sweep(_, let second, let same)) = tail.next() else {
      Issue.record("no second step")
      return
    }
    #expect(second == "17" && same == waiting.groups)
    _ = tail.reply(.purgeStep(cursor: "0", removed: 2))
    guard case .send(.swept(_, let taken)) = tail.next() else {
      Issue.record("no end of the pass")
      return
    }
    #expect(taken == waiting)
    // What is left begins the next pass, from cursor 0.
    let left = pending(("pc", "3-0"))
    _ = tail.reply(.swept(left: left))
    guard case .send(.sweep(_, let third, let rest)) = tail.next() else {
      Issue.record("no next pass")
      return
    }
    #expect(third == "0" && rest == left.groups)
    _ = tail.reply(.purgeStep(cursor: "0", removed: 0))
    guard case .send(.swept) = tail.next() else {
      Issue.record("no end of the next pass")
      return
    }
    #expect(tail.reply(.swept(left: PendingGroups())) == .goOn)
    for action in tail.settle() {
      if case .send = action { Issue.record("\(action)") }
    }
  }

  @Test("Every request of a pass counts, so that the next one passes the test of n")
  func counts() {
    var tail = Tail()
    _ = tail.settle()
    tail.transaction(200, groups: ["pa"])
    guard case .apply(let request, _) = tail.next() else { return }
    _ = tail.reply(applied(200, pending(("pa", "1-0"))))
    guard case .send(.sweep(let sweep, _, _)) = tail.next() else { return }
    _ = tail.reply(.purgeStep(cursor: "0", removed: 0))
    guard case .send(.swept(let swept, _)) = tail.next() else { return }
    #expect([sweep.count, swept.count] == [request.check.count + 1, request.check.count + 2])
  }

  @Test("A tailer that takes over asks what is pending, and a generation's clearing comes first")
  func takeover() {
    var tail = Tail(.resume(taken(cleared: false)))
    var order: [String] = []
    for _ in 0..<40 {
      switch tail.next() {
      case .apply(let request, _):
        order.append(tail.tells ? "told" : "beat")
        _ = tail.reply(
          applied(request.applied.rawValue, tail.tells ? pending(("pa", "1-0")) : PendingGroups()))
      case .send(.purge):
        order.append("purge")
        _ = tail.reply(.purgeStep(cursor: "0", removed: 0))
      case .send(.purged):
        order.append("purged")
        _ = tail.reply(.cleared)
      case .send(.sweep(_, let cursor, _)):
        #expect(cursor == "0")
        order.append("sweep")
        _ = tail.reply(.purgeStep(cursor: "0", removed: 0))
      case .send(.swept):
        order.append("swept")
        _ = tail.reply(.swept(left: PendingGroups()))
      default: tail.pass(milliseconds: 50)
      }
      if order.last == "swept" { break }
    }
    #expect(order.filter { $0 != "beat" } == ["purge", "purged", "told", "sweep", "swept"])
  }

  @Test("Too many pending groups begin a new generation that says so, and end the pass")
  func tooMany() {
    var tail = Tail()
    _ = tail.settle()
    tail.transaction(200, groups: ["pa"])
    _ = tail.next()
    var packed = PackedKeys()
    for number in 0...PendingGroups.most {
      for name in ["p\(number)", "1-0"] { Array(name.utf8).withUnsafeBytes { packed.append($0) } }
    }
    let all = PendingGroups(bytes: packed.bytes) ?? PendingGroups()
    _ = tail.reply(.applied(W: LSN(200), V: LSN(200), generationAsked: true, pending: all))
    tail.pass(milliseconds: 2000)
    guard case .send(.newGeneration) = tail.next() else {
      Issue.record("no new generation")
      return
    }
    #expect(
      tail.reply(.began)
        == .began(Generation(101), reason: "more prefixes and tags wait to be swept than 1000"))
    for action in tail.settle() {
      if case .send(.sweep) = action { Issue.record("\(action)") }
    }
  }
}
