import Glibc
import Testing

@testable import Server

@Suite("The table of what clients have read")
struct TrackingTableTests {
  typealias Message = TrackingTable.Message

  private func key(_ text: String) -> [UInt8] { Array(text.utf8) }

  private func table(limit: Int = 1000, _ states: [UInt64: TrackingState]) -> TrackingTable {
    var table = TrackingTable(limit: limit)
    for (client, state) in states { table.set(client, state) }
    return table
  }

  private func take(_ table: inout TrackingTable) -> [Message] { table.takeMessages() }

  private func told(_ client: UInt64, _ keys: String..., reply: Int) -> Message {
    Message(client: client, content: .keys(keys.map(key)), reply: reply)
  }

  @Test("Whoever has read a key is told once, and again only after another read")
  func once() {
    var table = table([1: TrackingState(), 2: TrackingState()])
    table.read(key("x"), by: 1, reply: 7)
    table.read(key("x"), by: 2, reply: 3)
    table.read(key("y"), by: 2, reply: 4)
    table.changed(key("x"))
    #expect(take(&table) == [told(1, "x", reply: 7), told(2, "x", reply: 3)])
    table.changed(key("x"))
    #expect(take(&table) == [])
    #expect(table.count == 1)
    table.read(key("x"), by: 1, reply: 9)
    table.changed(key("x"))
    #expect(take(&table) == [told(1, "x", reply: 9)])
  }

  @Test("A second read of a key counts once, with the newer reply")
  func twice() {
    var table = table([1: TrackingState()])
    table.read(key("x"), by: 1, reply: 1)
    table.read(key("x"), by: 1, reply: 2)
    #expect(table.count == 1)
    table.changed(key("x"))
    #expect(take(&table) == [told(1, "x", reply: 2)])
  }

  @Test("A read of a key costs as much with 20,000 clients that have read it as with one")
  func hot() {
    let clients = 0..<UInt64(20_000)
    func time(_ name: (UInt64) -> String) -> Double {
      var table = table(
        limit: 100_000, Dictionary(uniqueKeysWithValues: clients.map { ($0, TrackingState()) }))
      let keys = clients.map { key(name($0)) }
      var (before, after) = (timespec(), timespec())
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before)
      for reply in 0..<2 {
        for client in clients { table.read(keys[Int(client)], by: client, reply: reply) }
      }
      for client in clients.reversed() { table.wroteGoverned([keys[Int(client)]], by: client) }
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after)
      #expect(table.count == clients.count)
      return Double(after.tv_sec - before.tv_sec) + Double(after.tv_nsec - before.tv_nsec) / 1e9
    }
    let (cold, hot) = (time { "k\($0)" }, time { _ in "k" })
    #expect(hot < 10 * cold, "seconds: \(hot) for one key, \(cold) for as many keys as clients")
  }

  @Test("Holders of a key come, read again and go in any order, few or many")
  func holders() {
    var random = SystemRandomNumberGenerator()
    for most in [3, 12, 40, 200] as [UInt64] {
      var table = table(Dictionary(uniqueKeysWithValues: (0..<most).map { ($0, TrackingState()) }))
      for client in 0..<most {
        var state = TrackingState()
        state.hasNoLoop = true
        table.set(client, state)
      }
      var model: [UInt64: Int] = [:]
      for step in 0..<4000 {
        let client = random.next(upperBound: most)
        // Long stretches in which more come than go, and the other way round.
        if (step / 500) % 2 == 0
          ? random.next(upperBound: 4 as UInt64) > 0 : random.next(upperBound: 4 as UInt64) == 0
        {
          table.read(key("x"), by: client, reply: step)
          model[client] = step
        } else {
          table.wroteGoverned([key("x")], by: client)
          model[client] = nil
        }
        #expect(table.count == model.count)
      }
      table.changed(key("x"))
      let told = table.takeMessages().map { ($0.client, $0.reply) }
      #expect(Dictionary(uniqueKeysWithValues: told) == model)
    }
  }

  @Test("The table never has more entries than its limit, and who loses one is told")
  func bounded() {
    var table = table(limit: 10, [1: TrackingState(), 2: TrackingState()])
    var known: [UInt64: Set<String>] = [1: [], 2: []]
    for number in 0..<200 {
      let client = UInt64(number % 2 + 1)
      table.read(key("k\(number / 3)"), by: client, reply: number)
      known[client]?.insert("k\(number / 3)")
      #expect(table.count <= 10)
      for message in table.takeMessages() {
        guard case .keys(let keys) = message.content else { continue }
        for key in keys { known[message.client]?.remove(String(decoding: key, as: UTF8.self)) }
      }
    }
    // What nobody was told to forget is still entered.
    for number in 0..<200 { table.changed(key("k\(number)")) }
    for message in table.takeMessages() {
      guard case .keys(let keys) = message.content else { continue }
      for key in keys { known[message.client]?.remove(String(decoding: key, as: UTF8.self)) }
    }
    #expect(known[1] == [] && known[2] == [])
    #expect(table.count == 0)
    #expect(table.evicted > 0)
  }

  @Test("Entries of clients that have gone leave by and by, and nobody is told")
  func gone() {
    var table = table([1: TrackingState(), 2: TrackingState()])
    for number in 0..<100 { table.read(key("k\(number)"), by: UInt64(number % 2 + 1), reply: 0) }
    table.set(1, nil)
    table.changed(key("k0"))
    #expect(take(&table) == [])
    table.tick(now: 1)
    #expect(table.count == 50)
    table.set(2, nil)
    #expect(table.count == 0)
  }

  @Test("A group's keys change together, and whoever watches a prefix of it forgets everything")
  func groups() {
    var broadcasting = TrackingState()
    broadcasting.broadcasts = true
    broadcasting.prefixes = [key("s:cart:")]
    var elsewhere = broadcasting
    elsewhere.prefixes = [key("s:user:")]
    var table = table([1: TrackingState(), 2: broadcasting, 3: elsewhere])
    table.read(key("s:cart:1:a"), by: 1, reply: 1, groups: [5])
    table.read(key("s:cart:2:a"), by: 1, reply: 2, groups: [6])
    table.changed(group: key("ps:cart:1:"), bucket: 5, namespace: key("s:"))
    #expect(
      table.takeMessages() == [
        told(1, "s:cart:1:a", reply: 1), Message(client: 2, content: .everything, reply: .max),
      ])
    table.changed(group: key("ttenant:1"), bucket: 6, namespace: key("s:"))
    #expect(take(&table).map(\.client) == [1, 2, 3])
    table.changed(group: key("ttenant:1"), bucket: 6, namespace: key("s:"))
    #expect(take(&table).map(\.client) == [2, 3])
  }

  @Test("Broadcasting clients are told of all keys with their prefixes, together and in order")
  func broadcasts() {
    var state = TrackingState()
    state.broadcasts = true
    state.prefixes = [key("a"), key("b")]
    var all = state
    all.prefixes = [[]]
    var table = table([1: state, 2: all])
    for name in ["b2", "a1", "c", "b1", "b2"] { table.changed(key(name)) }
    #expect(
      table.takeMessages() == [
        told(2, "a1", "b1", "b2", "c", reply: .max), told(1, "a1", reply: .max),
        told(1, "b1", "b2", reply: .max),
      ])
    table.set(1, nil)
    table.changed(key("a1"))
    #expect(take(&table).map(\.client) == [2])
  }

  @Test("With NOLOOP a client is not told of what it has certainly changed, and is of everything else")
  func noLoop() {
    var state = TrackingState()
    state.hasNoLoop = true
    var table = table([1: state, 2: TrackingState()])
    for client: UInt64 in [1, 2] { table.read(key("x"), by: client, reply: 1) }
    #expect(table.writes([key("x"), key("y")], by: 1) == [key("x")])
    table.changed(key("x"), now: 10)
    #expect(take(&table).map(\.client) == [2])
    table.wrote([key("x")], by: 1, isCertain: true, reply: 2, now: 11)
    #expect(take(&table) == [])
    // A write that may have changed nothing leaves no copy behind that nobody watches.
    table.read(key("x"), by: 1, reply: 3)
    #expect(table.writes([key("x")], by: 1) == [key("x")])
    table.wrote([key("x")], by: 1, isCertain: false, reply: 4, now: 12)
    #expect(take(&table).map(\.isBehind) == [true])
  }

  @Test(
    "A broadcasting client with NOLOOP is spared one message for each of its writes, before or after the answer"
  )
  func noLoopBroadcast() {
    var state = TrackingState()
    state.broadcasts = true
    state.hasNoLoop = true
    state.prefixes = [[]]
    var table = table([1: state])
    func changed(at now: UInt64) -> Int {
      table.changed(key("x"), now: now)
      return table.takeMessages().count
    }
    // Told before it is answered.
    _ = table.writes([key("x")], by: 1)
    #expect(changed(at: 1) == 0)
    table.wrote([key("x")], by: 1, isCertain: true, reply: 1, now: 2)
    #expect(changed(at: 3) == 1)
    // Answered before it is told.
    _ = table.writes([key("x")], by: 1)
    table.wrote([key("x")], by: 1, isCertain: true, reply: 1, now: 4)
    #expect(changed(at: 5) == 0)
    #expect(changed(at: 6) == 1)
    // What was withheld was a stranger's.
    _ = table.writes([key("x")], by: 1)
    #expect(changed(at: 7) == 0)
    table.wrote([key("x")], by: 1, isCertain: false, reply: 1, now: 8)
    #expect(take(&table) == [told(1, "x", reply: 1)])
    // Of two writes at once Redis may tell once.
    for _ in 1...2 { _ = table.writes([key("x")], by: 1) }
    #expect(changed(at: 8) == 0)
    for _ in 1...2 { table.wrote([key("x")], by: 1, isCertain: true, reply: 1, now: 8) }
    #expect(changed(at: 8) == 1)
    // A message that comes late may be a stranger's as well.
    _ = table.writes([key("x")], by: 1)
    table.wrote([key("x")], by: 1, isCertain: true, reply: 1, now: 9)
    #expect(changed(at: 10 + OwnWrites.patience) == 1)
  }

  @Test("A value's end is told of when it comes, and not that of an earlier value")
  func ends() {
    var table = table([1: TrackingState()])
    let second: UInt64 = 1_000_000_000
    table.tick(now: 100 * second)
    table.read(key("x"), by: 1, reply: 1, end: 103 * second)
    table.read(key("y"), by: 1, reply: 1, end: 102 * second)
    table.setEnd(of: key("y"), 200 * second)
    table.tick(now: 102 * second + second / 2)
    #expect(take(&table) == [])
    table.tick(now: 103 * second + second / 2)
    #expect(take(&table) == [told(1, "x", reply: 1)])
    // However often it is read anew.
    for _ in 0..<5000 {
      table.changed(key("y"))
      table.read(key("y"), by: 1, reply: 1, end: 200 * second)
    }
    _ = table.takeMessages()
    table.tick(now: 201 * second)
    #expect(take(&table) == [told(1, "y", reply: 1)])
  }

  @Test("A flush tells every client once and empties the table")
  func flush() {
    var table = table([1: TrackingState(), 2: TrackingState()])
    table.read(key("x"), by: 1, reply: 1, groups: [1], isGoverned: false)
    #expect(table.foreign == 1)
    table.flush()
    #expect(take(&table).map(\.content) == [.everything, .everything])
    #expect(table.count == 0 && table.foreign == 0)
    table.changed(key("x"))
    table.changed(group: key("tx"), bucket: 1, namespace: [])
    #expect(take(&table) == [])
  }
}
