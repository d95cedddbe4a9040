import Invalidation
import Testing

@testable import NearCache

/// A follower, and what its owner would have done.
private struct Owner {
  var follower = Follower(mapping: "mine")
  var evicted: [String] = []
  var drops = 0
  /// What `certificate` was while each key was evicted.
  var certificates: [Instant?] = []

  @discardableResult
  mutating func hear(_ event: FeedEvent) -> Follower.Action {
    var keys: [String] = []
    func note(_ name: UnsafeRawBufferPointer) { keys.append(String(decoding: name, as: UTF8.self)) }
    let action = follower.hear(event, evict: note, group: note)
    evicted += keys
    if action == .dropAll { drops += 1 }
    return action
  }

  @discardableResult
  mutating func poll(_ state: FleetState?, asked: Int) -> Follower.Action {
    hear(.state(state, asked: at(asked)))
  }

  @discardableResult
  mutating func entries(_ entries: [JournalEntry], of generation: UInt64 = 1) -> Follower.Action {
    hear(.entries(entries, generation: Generation(generation)))
  }
}

private func state(
  _ generation: UInt64 = 1, h: UInt64 = 10, W: UInt64 = 100, jl: UInt64 = 5, mapping: String = "mine"
) -> FleetState {
  FleetState(
    generation: Generation(generation), cleared: Generation(generation), beats: h, applied: LSN(W),
    visible: LSN(W), floor: .zero, deletions: 0, journal: id(jl), watching: false, mapping: mapping)
}

private func entry(_ number: UInt64, after previous: UInt64, _ keys: String...) -> JournalEntry {
  var packed = PackedKeys()
  for key in keys { Array(key.utf8).withUnsafeBytes { packed.append($0) } }
  return JournalEntry(id: id(number), previous: id(previous), position: LSN(number * 10), keys: packed)
}

@Suite("The follower")
struct FollowerTests {
  @Test("Before anything is heard nothing may be served, leased or filled")
  func starting() {
    let follower = Follower(mapping: "mine")
    #expect(follower.standing == .starting && follower.state == nil && follower.certificate == nil)
    #expect(!follower.accepts(state()) && follower.certificate(state(), follower.basis) == nil)
  }

  @Test("The first state begins at its own position, with an empty near cache")
  func begins() {
    var owner = Owner()
    #expect(owner.poll(state(W: 100, jl: 5), asked: 0) == .dropAll)
    #expect(owner.follower.standing == .following && owner.follower.state == state(W: 100, jl: 5))
    #expect(owner.follower.position == id(5) && owner.follower.consumed == LSN(100))
    #expect(owner.follower.certificate == nil)
  }

  // MARK: Entries

  @Test("Each key is handed over with the reason that its entry gives")
  func reasons() {
    var follower = Follower(mapping: "mine")
    _ = follower.hear(.state(state(jl: 5), asked: Instant(nanoseconds: 0)), evict: { _ in }, group: { _ in })
    var known = entry(6, after: 5, "a", "b")
    var origins = PackedOrigins()
    for number in [1, 2] as [UInt32] { origins.append(KeyOrigin(transaction: number, table: 3, rule: 4)) }
    origins.append(KeyOrigin(transaction: 9, table: 3, rule: 5))
    known.origins = origins
    Array("pshop:c:".utf8).withUnsafeBytes { known.groups.append($0) }
    var heard: [KeyInvalidation] = []
    var groups: [KeyInvalidation] = []
    _ = follower.hear(
      .entries([known, entry(7, after: 6, "c")], generation: Generation(1)),
      evict: { _, why in heard.append(why) }, group: { _, why in groups.append(why) })
    #expect(
      groups == [KeyInvalidation(position: LSN(60), origin: KeyOrigin(transaction: 9, table: 3, rule: 5))])
    #expect(
      heard == [
        KeyInvalidation(position: LSN(60), origin: KeyOrigin(transaction: 1, table: 3, rule: 4)),
        KeyInvalidation(position: LSN(60), origin: KeyOrigin(transaction: 2, table: 3, rule: 4)),
        KeyInvalidation(position: LSN(70), origin: nil),
      ])
  }

  @Test("The keys of entries are evicted in their order")
  func evicts() {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    #expect(owner.entries([entry(6, after: 5, "a", "b"), entry(7, after: 6, "c")]) == .evict)
    #expect(owner.evicted == ["a", "b", "c"] && owner.follower.position == id(7))
  }

  @Test("An entry without keys moves the position and nothing else")
  func wakeUp() {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    #expect(owner.entries([entry(6, after: 5)]) == .none)
    #expect(owner.follower.position == id(6) && owner.drops == 1)
  }

  @Test("Entries heard twice are passed over")
  func twice() {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    owner.entries([entry(6, after: 5, "a")])
    #expect(owner.entries([entry(6, after: 5, "a"), entry(7, after: 6, "b")]) == .evict)
    #expect(owner.evicted == ["a", "b"] && owner.drops == 1)
  }

  @Test("Entries of another generation are ignored")
  func otherGeneration() {
    var owner = Owner()
    owner.poll(state(1, jl: 5), asked: 0)
    #expect(owner.entries([entry(6, after: 5, "a")], of: 2) == .none)
    #expect(owner.evicted == [] && owner.follower.position == id(5))
  }

  @Test("Entries before the first state are ignored")
  func entriesFirst() {
    var owner = Owner()
    #expect(owner.entries([entry(6, after: 5, "a")]) == .none && owner.follower.standing == .starting)
  }

  @Test(
    "A broken chain drops everything and goes on behind the last entry heard",
    arguments: [
      [entry(8, after: 7, "x"), entry(9, after: 8)],
      [entry(6, after: 5, "a"), entry(9, after: 8, "x")],
      [entry(6, after: 4), entry(9, after: 6)],
    ])
  func brokenChain(entries: [JournalEntry]) {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    #expect(owner.entries(entries) == .dropAll)
    #expect(owner.follower.position == id(9) && owner.follower.standing == .following)
    #expect(!owner.evicted.contains("x"))
    #expect(owner.entries([entry(10, after: 9, "z")]) == .evict && owner.evicted.last == "z")
  }

  @Test("After a broken chain nothing that was read before the latest poll is let in")
  func brokenChainBehindPoll() {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    owner.poll(state(jl: 20), asked: 100)
    #expect(owner.entries([entry(8, after: 7), entry(9, after: 8)]) == .dropAll)
    #expect(owner.follower.position == id(20) && !owner.follower.accepts(state(jl: 19)))
    // What lies between was dropped with everything else.
    #expect(owner.entries([entry(10, after: 9, "gone"), entry(21, after: 20, "next")]) == .evict)
    #expect(owner.evicted == ["next"])
  }

  @Test("A journal trimmed to nothing is a gap too, noticed when polls keep promising entries")
  func trimmedAway() {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    for asked in [100, 200, 300] {
      #expect(owner.poll(state(W: 200, jl: 8), asked: asked) == .none)
      #expect(owner.follower.consumed == LSN(100))
    }
    #expect(owner.poll(state(h: 12, W: 200, jl: 8), asked: 400) == .dropAll)
    #expect(owner.follower.position == id(8) && owner.follower.consumed == LSN(200))
    #expect(owner.follower.standing == .following)
  }

  @Test("A follower that is merely behind is not taken for one with a gap")
  func behind() {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    for step in 0..<20 {
      owner.poll(state(jl: 100), asked: step * 100)
      let number = UInt64(6 + step)
      #expect(owner.entries([entry(number, after: number - 1)]) == .none)
    }
    #expect(owner.drops == 1)
  }

  // MARK: A, and the certificate

  @Test("W counts as consumed only when the journal has been heard up to that poll")
  func consumed() {
    var owner = Owner()
    owner.poll(state(W: 100, jl: 5), asked: 0)
    owner.poll(state(W: 200, jl: 7), asked: 100)
    #expect(owner.follower.consumed == LSN(100))
    owner.entries([entry(6, after: 5)])
    #expect(owner.follower.consumed == LSN(100))
    owner.entries([entry(7, after: 6)])
    #expect(owner.follower.consumed == LSN(200))
    // Nothing new in the journal: the poll alone is enough.
    owner.poll(state(W: 300, jl: 7), asked: 200)
    #expect(owner.follower.consumed == LSN(300))
  }

  @Test("Entries younger than the last poll are normal and prove that poll's W")
  func youngerEntries() {
    var owner = Owner()
    owner.poll(state(W: 100, jl: 5), asked: 0)
    owner.poll(state(W: 200, jl: 6), asked: 100)
    #expect(owner.entries([entry(6, after: 5), entry(8, after: 6), entry(9, after: 8)]) == .none)
    #expect(owner.follower.consumed == LSN(200) && owner.follower.position == id(9))
    owner.poll(state(W: 300, jl: 9), asked: 200)
    #expect(owner.follower.standing == .following && owner.follower.consumed == LSN(300))
  }

  @Test("One beat after a poll proves nothing, the second proves the instant before the poll")
  func twoBeats() {
    var owner = Owner()
    owner.poll(state(h: 10), asked: 0)
    owner.poll(state(h: 11), asked: 100)
    #expect(owner.follower.certificate == nil)
    owner.poll(state(h: 12), asked: 200)
    #expect(owner.follower.certificate == at(0))
    owner.poll(state(h: 13), asked: 300)
    #expect(owner.follower.certificate == at(100))
  }

  @Test("Of several polls that read the same beat the latest counts; without beats nothing is proven")
  func newestPerBeat() {
    var owner = Owner()
    owner.poll(state(h: 10), asked: 0)
    owner.poll(state(h: 10), asked: 40)
    owner.poll(state(h: 10), asked: 80)
    for asked in 1...50 { owner.poll(state(h: 10), asked: 80 + asked) }
    #expect(owner.follower.certificate == nil)
    owner.poll(state(h: 12), asked: 200)
    #expect(owner.follower.certificate == at(130))
  }

  @Test("An entry with groups alone hands them over")
  func groups() {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    var cleared = entry(6, after: 5)
    for name in ["pshop:c:7:", "ttenant:7"] { Array(name.utf8).withUnsafeBytes { cleared.groups.append($0) } }
    #expect(owner.entries([cleared]) == .evict)
    #expect(owner.evicted == ["pshop:c:7:", "ttenant:7"])
  }

  @Test("A certificate waits for the entries that its poll promised, and for the keys to be evicted")
  func certificateWaits() {
    var owner = Owner()
    owner.poll(state(h: 10, jl: 5), asked: 0)
    owner.poll(state(h: 12, jl: 7), asked: 200)
    #expect(owner.follower.certificate == nil)
    owner.entries([entry(6, after: 5, "a")])
    #expect(owner.follower.certificate == nil)
    // The last key is handed over while the certificate is still the old one.
    let follower = owner.follower
    var copy = follower
    var evictedBefore = false
    _ = copy.hear(
      .entries([entry(7, after: 6, "b")], generation: Generation(1)), evict: { _ in evictedBefore = true },
      group: { _ in })
    #expect(evictedBefore && follower.certificate == nil && copy.certificate == at(0))
  }

  @Test("A follower that never quite catches up is certified by the polls that it has caught up with")
  func alwaysBehind() {
    var owner = Owner()
    owner.poll(state(h: 10, W: 100, jl: 5), asked: 0)
    owner.poll(state(h: 12, W: 200, jl: 7), asked: 200)
    owner.poll(state(h: 14, W: 300, jl: 9), asked: 400)
    owner.entries([entry(6, after: 5), entry(7, after: 6), entry(8, after: 7)])
    #expect(owner.follower.certificate == at(0) && owner.follower.consumed == LSN(200))
    owner.entries([entry(9, after: 8)])
    #expect(owner.follower.certificate == at(200) && owner.follower.consumed == LSN(300))
  }

  @Test("Far behind, the earliest polls are kept, so that the way back is certified")
  func farBehind() {
    var owner = Owner()
    owner.poll(state(h: 10, W: 100, jl: 5), asked: 0)
    var last: UInt64 = 5
    for step in 1...100 {
      owner.poll(
        state(h: 10 + UInt64(step), W: 100 + UInt64(step), jl: 1000 + UInt64(step)), asked: step * 100)
      if step % 2 == 0 {
        owner.entries([entry(last + 1, after: last)])
        last += 1
      }
    }
    owner.entries([entry(1001, after: last)])
    #expect(owner.follower.consumed == LSN(101) && owner.drops == 1)
    owner.entries([entry(1100, after: 1001)])
    #expect(owner.follower.consumed == LSN(200))
  }

  @Test("A value from Redis is proven by the beats that its own reply carries")
  func certificateOfReply() {
    var owner = Owner()
    owner.poll(state(h: 10), asked: 0)
    let early = owner.follower.basis
    owner.poll(state(h: 11), asked: 100)
    func proven(_ beats: UInt64) -> Instant? {
      owner.follower.certificate(state(h: beats), owner.follower.basis)
    }
    // What was heard after a read was sent may come from another Redis than its reply.
    #expect(owner.follower.certificate(state(h: 14), early) == at(0))
    #expect(owner.follower.certificate(state(2, h: 14), early) == nil)
    #expect(proven(11) == nil)
    #expect(proven(12) == at(0))
    #expect(proven(13) == at(100))
    #expect(proven(14) == at(100))
    for few: UInt64 in 0...2 { #expect(proven(few) == nil) }
  }

  @Test("The evidence is bounded, and losing the oldest makes no certificate younger than the truth")
  func evidenceIsBounded() {
    var evidence = Evidence()
    for step in 0..<1000 { evidence.record(asked: at(step), beats: UInt64(step)) }
    #expect(evidence.certificate(beats: 1001) == at(999) && evidence.certificate(beats: 1000) == at(998))
    #expect(evidence.certificate(beats: 999 - 61) == at(999 - 63))
    #expect(evidence.certificate(beats: 999 - 62) == nil)
  }

  // MARK: Replies

  @Test(
    "A reply is accepted only from the generation followed, not older than the poll and the journal",
    arguments: [
      (state(1, h: 10, jl: 6), true), (state(1, h: 12, W: 900, jl: 9), true),
      (state(2, h: 10, jl: 6), false), (state(1, h: 9, jl: 6), false), (state(1, h: 10, jl: 5), false),
      (state(1, h: 10, jl: 6, mapping: "other"), false),
    ])
  func accepts(reply: FleetState, accepted: Bool) {
    var owner = Owner()
    owner.poll(state(1, h: 10, jl: 5), asked: 0)
    owner.entries([entry(6, after: 5, "a")])
    #expect(owner.follower.accepts(reply) == accepted)
    if reply.mapping == "mine" {
      let fill = owner.follower.accepts(
        generation: reply.generation, beats: reply.beats, journal: reply.journal)
      #expect(fill == accepted)
    }
  }

  @Test(
    "A reply may be shown, though not kept, when news overtook it; not when Redis seems to have gone back",
    arguments: [
      (state(1, h: 10, jl: 6), true), (state(1, h: 10, jl: 5), true), (state(1, h: 9, jl: 5), true),
      (state(1, h: 8, jl: 5), false), (state(2, h: 10, jl: 6), false),
      (state(1, h: 10, jl: 6, mapping: "other"), false),
    ])
  func follows(reply: FleetState, followed: Bool) {
    var owner = Owner()
    #expect(!owner.follower.follows(reply, owner.follower.basis))
    owner.poll(state(1, h: 10, jl: 5), asked: 0)
    owner.entries([entry(6, after: 5, "a")])
    #expect(owner.follower.follows(reply, owner.follower.basis) == followed)
    // One that knows less than this host knew when it asked.
    owner.poll(state(1, h: 10, W: 900, jl: 6), asked: 50)
    #expect(!owner.follower.follows(reply, owner.follower.basis))
  }

  // MARK: Losing and changing state

  @Test("A new generation drops everything, evidence included, and begins at its own position")
  func newGeneration() {
    var owner = Owner()
    owner.poll(state(1, h: 10, W: 100, jl: 50), asked: 0)
    owner.poll(state(1, h: 12, W: 100, jl: 50), asked: 200)
    #expect(owner.follower.certificate == at(0))
    #expect(owner.poll(state(2, h: 20, W: 90, jl: 0), asked: 300) == .dropAll)
    let basis = owner.follower.basis
    #expect(owner.follower.certificate == nil && owner.follower.certificate(state(2, h: 21), basis) == nil)
    #expect(owner.follower.certificate(state(2, h: 22), basis) == at(300))
    #expect(owner.follower.position == .zero && owner.follower.consumed == LSN(90))
    #expect(owner.follower.generation == Generation(2) && owner.follower.standing == .following)
    #expect(!owner.follower.accepts(state(1, h: 13, jl: 50)))
  }

  @Test(
    "Redis that went back within a generation poisons it until another one begins",
    arguments: [
      state(1, h: 11, W: 200, jl: 7), state(1, h: 12, W: 200, jl: 6), state(1, h: 12, W: 199, jl: 7),
    ])
  func poisons(older: FleetState) {
    var owner = Owner()
    owner.poll(state(1, h: 10, W: 100, jl: 7), asked: 0)
    owner.poll(state(1, h: 12, W: 200, jl: 7), asked: 200)
    #expect(owner.poll(older, asked: 300) == .dropAll)
    #expect(owner.follower.standing == .poisoned && owner.follower.state == nil)
    #expect(
      owner.follower.certificate == nil
        && owner.follower.certificate(state(h: 50), owner.follower.basis) == nil)
    #expect(!owner.follower.accepts(state(1, h: 50, W: 500, jl: 50)))
    // Not even a state that looks right again.
    #expect(owner.poll(state(1, h: 50, W: 500, jl: 50), asked: 400) == .none)
    #expect(owner.follower.standing == .poisoned)
    #expect(owner.entries([entry(51, after: 50, "a")]) == .none && owner.evicted == [])
    // Not even after the state was lost in between.
    owner.poll(nil, asked: 450)
    #expect(owner.follower.standing == .noState)
    owner.poll(state(1, h: 51, W: 600, jl: 60), asked: 460)
    #expect(owner.follower.standing == .poisoned)
    #expect(owner.poll(state(2, h: 0, W: 0, jl: 0), asked: 500) == .dropAll)
    #expect(owner.follower.standing == .following)
  }

  @Test("An entry that was heard is remembered: a journal that ends before it is poison")
  func journalBehindEntries() {
    var owner = Owner()
    owner.poll(state(jl: 5), asked: 0)
    owner.entries([entry(6, after: 5), entry(7, after: 6)])
    owner.poll(state(h: 11, W: 200, jl: 6), asked: 100)
    #expect(owner.follower.standing == .poisoned)
  }

  @Test("The same state again is no step back")
  func same() {
    var owner = Owner()
    owner.poll(state(), asked: 0)
    #expect(owner.poll(state(), asked: 100) == .none && owner.follower.standing == .following)
  }

  @Test("Without a state everything is dropped, once, and nothing may be served, leased or filled")
  func noState() {
    var owner = Owner()
    owner.poll(state(h: 10), asked: 0)
    owner.poll(state(h: 12), asked: 200)
    #expect(owner.poll(nil, asked: 300) == .dropAll)
    #expect(owner.follower.standing == .noState && owner.follower.state == nil)
    #expect(owner.follower.certificate == nil && !owner.follower.accepts(state(h: 20)))
    #expect(owner.poll(nil, asked: 400) == .none)
    #expect(owner.poll(state(2, h: 0, jl: 0), asked: 500) == .dropAll)
    #expect(owner.follower.standing == .following)
  }

  @Test("A generation that comes back after a loss of state begins anew, or is poisoned if it went back")
  func sameGenerationAfterLoss() {
    var owner = Owner()
    owner.poll(state(h: 10, jl: 5), asked: 0)
    owner.poll(state(h: 12, jl: 5), asked: 200)
    owner.poll(nil, asked: 300)
    var other = owner
    owner.poll(state(h: 12, jl: 9), asked: 400)
    #expect(owner.follower.standing == .following && owner.follower.position == id(9))
    let basis = owner.follower.basis
    #expect(owner.follower.certificate == nil && owner.follower.certificate(state(h: 14), basis) == at(400))
    other.poll(state(h: 11, jl: 5), asked: 400)
    #expect(other.follower.standing == .poisoned)
  }

  @Test("Another mapping drops everything and lets nothing in until the fleet's mapping is ours")
  func otherMapping() {
    var owner = Owner()
    owner.poll(state(1), asked: 0)
    #expect(owner.poll(state(2, mapping: "theirs"), asked: 100) == .dropAll)
    #expect(owner.follower.standing == .otherMapping("theirs") && owner.follower.state == nil)
    #expect(!owner.follower.accepts(state(2)) && owner.follower.certificate == nil)
    #expect(owner.entries([entry(6, after: 5, "a")], of: 2) == .none && owner.evicted == [])
    #expect(owner.poll(state(3), asked: 200) == .dropAll)
    #expect(owner.follower.standing == .following)
  }

  @Test("An unreachable Redis keeps the near cache, the certificate and the state as they are")
  func unreachable() {
    var owner = Owner()
    owner.poll(state(h: 10), asked: 0)
    owner.poll(state(h: 12), asked: 200)
    #expect(owner.hear(.unreachable("Redis at /run/redis.sock refused the connection.")) == .none)
    #expect(owner.follower.standing == .unreachable("Redis at /run/redis.sock refused the connection."))
    #expect(owner.follower.certificate == at(0) && owner.follower.state == state(h: 12))
    #expect(owner.poll(state(h: 13), asked: 9_000) == .none)
    #expect(owner.follower.standing == .following && owner.drops == 1)
  }

  @Test("An unreachable Redis at the start is no state")
  func unreachableFirst() {
    var owner = Owner()
    #expect(owner.hear(.unreachable("No.")) == .none)
    #expect(owner.follower.standing == .unreachable("No.") && owner.follower.state == nil)
  }

  @Test("A gap that opened while Redis was unreachable is found by the chain")
  func gapAfterReconnect() {
    var owner = Owner()
    owner.poll(state(h: 10, jl: 5), asked: 0)
    owner.hear(.unreachable("No."))
    owner.poll(state(h: 500, W: 900, jl: 900), asked: 60_000)
    #expect(owner.follower.certificate == nil)
    #expect(owner.entries([entry(899, after: 898), entry(900, after: 899)]) == .dropAll)
    #expect(owner.follower.position == id(900) && owner.follower.consumed == LSN(900))
    #expect(owner.follower.certificate == at(0))
  }
}
