import Configuration
import Foundation
import Glibc
import Invalidation
import Synchronization
import TestSupport
import Testing

@testable import Redis

/// Follows on a thread of its own, and remembers what was heard.
final class Listener: Sendable {
  struct Heard {
    var states: [FleetState?] = []
    var asked: [Instant] = []
    var entries: [(JournalEntry, Generation)] = []
    var unreachable: [String] = []
    /// `S`, `E` and `U` in the order of the events.
    var order = ""
  }

  private let heard = Mutex(Heard())
  private let stopping = Atomic<Bool>(false)
  private let ended = Atomic<Bool>(false)

  init(_ lab: Lab) { start(lab.settings, lab.keys) }

  private func start(_ settings: RedisSettings, _ keys: StateKeys) {
    let thread = Thread { [self] in
      RedisFeed.follow(
        settings: settings, keys: keys, until: { self.stopping.load(ordering: .relaxed) },
        clock: { bootInstant() },
        hear: { event in
          self.heard.withLock { heard in
            switch event {
            case .state(let state, let asked):
              heard.states.append(state)
              heard.asked.append(asked)
              heard.order += "S"
            case .entries(let entries, let generation):
              heard.entries += entries.map { ($0, generation) }
              heard.order += "E"
            case .unreachable(let sentence):
              heard.unreachable.append(sentence)
              heard.order += "U"
            }
          }
        })
      self.ended.store(true, ordering: .releasing)
    }
    thread.start()
  }

  var now: Heard { heard.withLock { $0 } }

  func stop() throws {
    stopping.store(true, ordering: .relaxed)
    try eventually("the feed ends when told to", within: .seconds(3)) { ended.load(ordering: .acquiring) }
  }
}

@Suite("The feed")
struct FeedTests {
  @Test("Entries arrive in order, each once, after a state that was asked for before")
  func order() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x101, keys: ["shop:before"]))
    let begun = bootInstant()
    let listener = Listener(lab)
    try eventually { listener.now.states.count >= 2 }
    for n in 1..<500 as Range<UInt64> {
      _ = try redis.apply(
        lab, Apply(n: n, W: 0x101 + n, V: 0x101 + n, keys: ["shop:user:\(n)", "shop:x:\(n)"]))
    }
    try eventually { listener.now.entries.count == 499 && listener.now.states.last??.applied == LSN(0x2f4) }
    try listener.stop()
    let heard = listener.now
    #expect(heard.order.hasPrefix("SS"))
    #expect(!heard.order.contains("EE") && !heard.order.contains("U"))
    #expect(heard.asked.allSatisfy { $0 >= begun } && heard.asked == heard.asked.sorted())
    #expect(heard.states.first??.journal == heard.entries.first?.0.previous)
    var previous = heard.entries[0].0.previous
    for (index, (entry, g)) in heard.entries.enumerated() {
      #expect(g == g1)
      #expect(entry.previous == previous)
      #expect(entry.position == LSN(0x102 + UInt64(index)))
      #expect(unpacked(entry.keys) == ["shop:user:\(index + 1)", "shop:x:\(index + 1)"])
      previous = entry.id
    }
  }

  @Test("An entry of the tailer tells why for each key, an application's deletion does not")
  func origins() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let listener = Listener(lab)
    try eventually { listener.now.states.count >= 2 }
    var sink = try lab.sink()
    var batch = KeyBatch()
    let origins = [
      KeyOrigin(transaction: 0xffff_fffe, table: 0, rule: 1),
      KeyOrigin(transaction: 7, table: 300, rule: 255),
    ]
    for (index, origin) in origins.enumerated() {
      Array("shop:user:\(index)".utf8).withUnsafeBytes { batch.append($0, table: index, origin: origin) }
    }
    batch.complete(through: LSN(0x200))
    let check = WriteCheck(token: "t1", generation: g1, count: 0)
    try sink.apply(
      ApplyRequest(
        check: check, applied: LSN(0x200), visible: LSN(0x200), fence: LSN(0x200), part: 1,
        parts: 1),
      keys: batch, chunk: 0..<2)
    _ = try sink.reply()
    _ = try redis.del(lab, "DEL", ["shop:user:9"])
    _ = try redis.apply(lab, Apply(n: 1, W: 0x300, keys: ["shop:user:8"]))
    try eventually { listener.now.entries.count == 3 }
    try listener.stop()
    let entries = listener.now.entries.map(\.0)
    #expect((0..<3).map { entries[0].origins?[$0] } == [origins[0], origins[1], nil])
    #expect(entries[1].origins == nil)
    #expect(entries[2].origins == nil)
  }

  @Test("An entry is heard as soon as it is written, not with the next poll")
  func wakes() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let listener = Listener(lab)
    try eventually { listener.now.states.count >= 2 }
    var best = Duration.seconds(1)
    for n in 0..<5 as Range<UInt64> {
      _ = try redis.apply(lab, Apply(n: n, W: 0x101 + n, keys: ["shop:user:\(n)"]))
      let written = ContinuousClock.now
      try eventually(every: .microseconds(200)) { listener.now.entries.count == Int(n) + 1 }
      best = min(best, ContinuousClock.now - written)
    }
    #expect(best < .milliseconds(30))
    try listener.stop()
  }

  @Test("A new generation is heard at once, and its journal from that state on")
  func generations() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    let listener = Listener(lab)
    try eventually { listener.now.states.count >= 2 }
    #expect(listener.now.states.allSatisfy { $0 == nil })
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, keys: ["shop:user:1"]))
    try eventually { listener.now.states.last??.applied == LSN(0x200) }
    _ = try redis.begin(lab, g2, old: g1)
    try eventually { listener.now.states.last??.generation == g2 }
    _ = try redis.apply(lab, Apply(g: g2, W: 0x300, keys: ["shop:user:2"]))
    try eventually { listener.now.entries.contains { $0.1 == g2 } }
    try listener.stop()
    let entries = listener.now.entries.filter { $0.1 == g2 }
    #expect(entries.count == 1)
    #expect(entries.first?.0.previous == .zero)
    #expect(unpacked(entries.first?.0.keys ?? PackedKeys()) == ["shop:user:2"])
  }

  @Test("After a new generation its entries too are heard as soon as they are written")
  func wakesInANewGeneration() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let listener = Listener(lab)
    try eventually { listener.now.states.count >= 2 }
    var best = Duration.seconds(1)
    for round in 1...5 as ClosedRange<UInt64> {
      let (old, new) = (Generation(g1.rawValue + round - 1), Generation(g1.rawValue + round))
      _ = try redis.begin(lab, new, old: old)
      try eventually(every: .microseconds(200)) { listener.now.states.last??.generation == new }
      _ = try redis.apply(lab, Apply(g: new, W: 0x200, keys: ["shop:user:1"]))
      let written = ContinuousClock.now
      try eventually(every: .microseconds(200)) { listener.now.entries.last?.1 == new }
      best = min(best, ContinuousClock.now - written)
    }
    // A feed that waited at the old journal first would take about 100 ms each time.
    #expect(best < .milliseconds(50))
    try listener.stop()
  }

  @Test(
    "What is still read of an ended generation is not heard after the new one's state, and nothing is lost")
  func endedGeneration() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let events = Mutex<[String]>([])
    // The feed runs on this thread, so what happens between two of its polls is exact.
    let step = Atomic<Int>(0)
    RedisFeed.follow(
      settings: lab.settings, keys: lab.keys, until: { step.load(ordering: .relaxed) > 3 },
      clock: { bootInstant() },
      hear: { event in
        guard var redis = try? lab.connect() else { return }
        switch event {
        case .state(let state, _):
          events.withLock { $0.append("state \(state?.generation.rawValue ?? 0)") }
          switch step.add(1, ordering: .relaxed).newValue {
          // Before the first read of the journal: an entry that this read finds.
          case 1: _ = try? redis.apply(lab, Apply(W: 0x200, keys: ["shop:user:1"]))
          case 3: _ = try? redis.apply(lab, Apply(g: g2, n: 1, W: 0x400, keys: ["shop:user:3"]))
          default: break
          }
        case .entries(let entries, let g):
          events.withLock {
            $0.append("entries \(g.rawValue) " + entries.flatMap { unpacked($0.keys) }.joined(separator: ","))
          }
          // Between two polls: the next one reads the old journal's last entry with the new state.
          if g == g1 {
            _ = try? redis.begin(lab, g2, old: g1)
            _ = try? redis.apply(lab, Apply(g: g2, W: 0x300, keys: ["shop:user:2"]))
          }
        case .unreachable(let sentence): events.withLock { $0.append(sentence) }
        }
      })
    #expect(
      events.withLock { $0 } == [
        "state 161", "state 161", "entries 161 shop:user:1", "state 162", "state 162",
        "entries 162 shop:user:3",
      ])
  }

  @Test("A restart of Redis is heard, survived, and followed by what Redis then says")
  func restart() throws {
    let lab = try Lab(["--appendonly", "yes", "--appendfsync", "always"], timeout: 1_000_000_000)
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let listener = Listener(lab)
    try eventually { listener.now.states.count >= 2 }
    _ = try redis.apply(lab, Apply(W: 0x200, keys: ["shop:user:1"]))
    try eventually { listener.now.entries.count == 1 }
    try lab.server.stop(hard: true)
    try eventually { listener.now.unreachable.count >= 2 }
    #expect(
      listener.now.unreachable.last?.hasPrefix("Redis cannot be reached at \(lab.server.socket)") == true)
    try lab.server.start()
    redis = try lab.connect()
    _ = try redis.apply(lab, Apply(n: 1, W: 0x300, keys: ["shop:user:2"]))
    try eventually { listener.now.entries.count == 2 }
    // Nothing was lost, so the chain goes on over the restart.
    let entries = listener.now.entries
    #expect(entries[1].0.previous == entries[0].0.id)
    try redis.call("FLUSHALL")
    try eventually { listener.now.states.last.map { $0 == nil } == true }
    _ = try redis.begin(lab, g3)
    try eventually { listener.now.states.last??.generation == g3 }
    try listener.stop()
  }

  @Test("A Redis that hangs is given up after the time-out, and the feed ends when told to all the same")
  func hangs() throws {
    let lab = try Lab(timeout: 200_000_000)
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let listener = Listener(lab)
    try eventually { listener.now.states.count >= 2 }
    lab.server.pause()
    try eventually { listener.now.unreachable.count >= 1 }
    #expect(listener.now.unreachable.first?.contains("did not answer in time") == true)
    lab.server.resume()
    let before = listener.now.states.count
    try eventually { listener.now.states.count > before }
    lab.server.pause()
    try listener.stop()
    lab.server.resume()
  }

  @Test("An entry that nobody of ours wrote is left out, and the next one's chain shows it")
  func foreignEntry() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try redis.apply(lab, Apply(W: 0x200, keys: ["shop:user:1"]))
    let listener = Listener(lab)
    try eventually { listener.now.states.count >= 2 }
    let id = try redis.call("XADD", lab.keys.journal(g1), "*", "p", "what", "k", "\u{1}").text ?? ""
    try redis.call("HSET", lab.keys.meta, "jl", id)
    _ = try redis.apply(lab, Apply(n: 1, W: 0x300, keys: ["shop:user:2"]))
    try eventually { listener.now.entries.count == 1 }
    #expect(listener.now.entries[0].0.previous.description == id)
    try listener.stop()
  }

  @Test("A state of another type is no state")
  func wrongType() throws {
    let lab = try Lab()
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let listener = Listener(lab)
    try eventually { listener.now.states.last??.generation == g1 }
    try redis.call("SET", lab.keys.meta, "x")
    try eventually { listener.now.states.last.map { $0 == nil } == true }
    #expect(listener.now.unreachable == [])
    try listener.stop()
  }
}
