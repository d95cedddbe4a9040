import Invalidation
import Testing

@testable import Policies

@Suite("The table of loads")
struct LoadTableTests {
  typealias Table = LoadTable<String, String>

  let key = Array("user:1".utf8)
  static func lease(_ position: UInt64, generation: UInt64 = 1) -> Lease {
    Lease(generation: Generation(generation), stamp: Stamp(visible: LSN(position), deletions: 0))
  }

  /// What each waiter was told, in one line each.
  func told(_ releases: [Table.Release]) -> [String] {
    releases.map { release in
      switch release.verdict {
      case .value(let value): "\(release.waiter) \(value)"
      case .absent(let lease): "\(release.waiter) absent \(lease?.stamp.visible.rawValue ?? 0)"
      case .again: "\(release.waiter) again"
      case .failed(let failure): "\(release.waiter) failed \(failure)"
      }
    }
  }

  func join(
    _ table: inout Table, _ waiter: UInt64, lease: Lease? = lease(1), takes: Bool = true,
    arrival: UInt64? = nil
  ) -> String {
    switch table.join(
      key, waiter: waiter, arrival: arrival ?? table.serial, lease: lease, takesValue: takes)
    {
    case .waits: "waits"
    case .full: "full"
    case .verdict(let verdict):
      told([Table.Release(waiter: waiter, key: key, verdict: verdict)])[0]
    }
  }

  func next(_ table: inout Table, isThere: Bool = true) -> Table.Start? {
    table.next(isThere: { _ in isThere })
  }

  func begin(_ table: inout Table) throws -> UInt64 {
    let start = next(&table)
    let load = try #require(start).load
    _ = table.begins(load)
    return load
  }

  func end(_ table: inout Table, _ load: UInt64, _ outcome: Table.Outcome) throws -> Table.Ended {
    let ended = table.finished(load, outcome)
    return try #require(ended)
  }

  func filled(_ table: inout Table, _ load: UInt64, stored: Bool) -> [String] {
    told(table.filled(load, stored: stored))
  }

  @Test("A thousand who miss one key cause one load, and all get its value at once")
  func coalesced() throws {
    var table = Table(mostRunning: 8)
    for waiter in 1...1000 { #expect(join(&table, UInt64(waiter)) == "waits") }
    let load = try begin(&table)
    #expect(next(&table) == nil)
    let ended = try end(&table, load, .value("v"))
    #expect(told(ended.releases) == (1...1000).map { "\($0) v" })
    #expect(ended.lease == Self.lease(1))
    #expect(filled(&table, load, stored: true) == [])
    #expect(table.count == 0)
  }

  @Test("Who asked after the load had begun gets its value only once it was stored")
  func lateIsToldByTheFill() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1)
    let load = try begin(&table)
    #expect(join(&table, 2) == "waits")
    #expect(told(try end(&table, load, .value("v")).releases) == ["1 v"])
    #expect(filled(&table, load, stored: true) == ["2 v"])
  }

  @Test("Who asked after the load had begun never gets a value that was refused")
  func lateIsRefusedWithTheFill() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1)
    let load = try begin(&table)
    #expect(join(&table, 2) == "waits")
    _ = table.finished(load, .value("old"))
    #expect(filled(&table, load, stored: false) == ["2 again"])
  }

  @Test("Who asked while the fill was on its way may have come after it, and asks again")
  func laterThanTheFill() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1)
    let load = try begin(&table)
    _ = table.finished(load, .value("v"))
    #expect(join(&table, 2) == "waits")
    #expect(filled(&table, load, stored: true) == ["2 again"])
  }

  @Test("Who asked before the load began may miss at any time during it, and gets the value")
  func earlyByArrival() throws {
    var table = Table(mostRunning: 8)
    let arrival = table.serial
    _ = join(&table, 1)
    let load = try begin(&table)
    #expect(join(&table, 2, arrival: arrival) == "waits")
    #expect(told(try end(&table, load, .value("v")).releases) == ["1 v", "2 v"])
    #expect(join(&table, 3, arrival: arrival) == "3 v")
    #expect(filled(&table, load, stored: false) == [])
  }

  @Test("A refused fill is followed by a load with a new lease, for which all who asked again were early")
  func repeated() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1)
    let first = try begin(&table)
    let arrival = table.serial
    _ = join(&table, 2, arrival: arrival)
    _ = table.finished(first, .value("old"))
    #expect(filled(&table, first, stored: false) == ["2 again"])
    _ = join(&table, 2, lease: Self.lease(9), arrival: arrival)
    let second = try begin(&table)
    let ended = try end(&table, second, .value("new"))
    #expect(told(ended.releases) == ["2 new"])
    #expect(ended.lease == Self.lease(9))
  }

  @Test("Who cannot be answered with the value asks again once it is stored")
  func readsAgain() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1, takes: false)
    let load = try begin(&table)
    #expect(told(try end(&table, load, .value("v")).releases) == [])
    #expect(filled(&table, load, stored: true) == ["1 again"])
  }

  @Test("No row: the early are told at once, the late once nothing has changed")
  func absent() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1, takes: false)
    let load = try begin(&table)
    _ = join(&table, 2)
    let ended = try end(&table, load, .absent)
    #expect(told(ended.releases) == ["1 absent 1"])
    #expect(filled(&table, load, stored: true) == ["2 absent 1"])
  }

  @Test("No row, and a change meanwhile: the late ask again")
  func absentRefused() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1)
    let load = try begin(&table)
    _ = join(&table, 2)
    _ = table.finished(load, .absent)
    #expect(filled(&table, load, stored: false) == ["2 again"])
  }

  @Test("An error is everybody's, and nothing is stored")
  func failure() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1)
    let load = try begin(&table)
    _ = join(&table, 2)
    let ended = try end(&table, load, .failed("42P01"))
    #expect(told(ended.releases) == ["1 failed 42P01", "2 failed 42P01"])
    #expect(ended.lease == nil)
    #expect(table.count == 0)
  }

  @Test("Without a lease the value is shown to the early and not stored; the late ask again")
  func withoutLease() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1, lease: nil)
    let load = try begin(&table)
    _ = join(&table, 2)
    let ended = try end(&table, load, .value("v"))
    #expect(told(ended.releases) == ["1 v", "2 again"])
    #expect(ended.lease == nil)
  }

  @Test("Of the leases given before a load the newest counts, and none that was given later")
  func newestLease() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1, lease: Self.lease(5))
    _ = join(&table, 2, lease: Self.lease(7))
    _ = join(&table, 3, lease: Self.lease(6))
    _ = join(&table, 4, lease: nil)
    let load = try begin(&table)
    _ = join(&table, 5, lease: Self.lease(8))
    #expect(try end(&table, load, .value("v")).lease == Self.lease(7))
  }

  @Test("A new generation: what is being loaded is shown to the early and not stored")
  func generationChanged() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1)
    let load = try begin(&table)
    _ = join(&table, 2)
    table.leasesEnded()
    let ended = try end(&table, load, .value("v"))
    #expect(told(ended.releases) == ["1 v", "2 again"])
    #expect(ended.lease == nil)
  }

  @Test("A load that nobody waits for any more does not begin; one for its own sake does")
  func clientsGone() throws {
    var table = Table(mostRunning: 8)
    _ = join(&table, 1)
    let isNew = table.refresh(Array("user:2".utf8), lease: Self.lease(1))
    #expect(isNew)
    let start = try #require(next(&table, isThere: false))
    #expect(start.key == Array("user:2".utf8))
    #expect(next(&table, isThere: false) == nil)
    #expect(table.count == 1)
    #expect(table.takeDropped() == [1])
  }

  @Test("Only so many statements run; the next begins when one has ended")
  func paced() throws {
    var table = Table(mostRunning: 2)
    for n in 0..<5 {
      _ = table.join(Array("user:\(n)".utf8), waiter: UInt64(n), arrival: 1, lease: nil, takesValue: true)
    }
    let first = try begin(&table)
    _ = try begin(&table)
    #expect(next(&table) == nil)
    _ = table.finished(first, .value("v"))
    #expect(try #require(next(&table)).key == Array("user:2".utf8))
  }

  @Test("Loads that run in one statement count as one, and the order of the others is kept")
  func along() throws {
    var table = Table(mostRunning: 2)
    for (n, name) in ["a1", "a2", "b3", "a4", "b5"].enumerated() {
      _ = table.join(Array(name.utf8), waiter: UInt64(n), arrival: 1, lease: nil, takesValue: true)
    }
    func along(_ letter: Character, _ table: inout Table) -> String? {
      let start = table.nextAlong(isThere: { _ in true }, if: { $0[0] == letter.asciiValue })
      if let start { _ = table.begins(start.load) }
      return start.map { String(decoding: $0.key, as: UTF8.self) }
    }
    let first = try begin(&table)
    #expect(along("a", &table) == "a2")
    #expect(along("a", &table) == nil)
    #expect(table.running == 1)
    _ = try begin(&table)
    #expect(next(&table) == nil)
    _ = table.finished(2, .value("v"))
    #expect(table.running == 2)
    _ = table.finished(first, .value("v"))
    let last = next(&table)
    #expect(String(decoding: try #require(last).key, as: UTF8.self) == "a4")
  }

  /// A table in which three loads have been taken off the queue for one statement.
  func batch() -> (table: Table, loads: [UInt64]) {
    var table = Table(mostRunning: 1)
    for n in 1...4 {
      _ = table.join(Array("a\(n)".utf8), waiter: UInt64(n), arrival: 1, lease: nil, takesValue: true)
    }
    var loads = [next(&table)?.load ?? 0]
    for _ in 2...3 {
      loads.append(table.nextAlong(isThere: { _ in true }, if: { _ in true })?.load ?? 0)
    }
    return (table, loads)
  }

  @Test("A statement counts though the load that began it is left to another host")
  func alongWithoutFirst() {
    var (table, loads) = batch()
    table.elsewhere(loads.removeFirst())
    for load in loads { _ = table.begins(load) }
    table.sent(loads)
    #expect(table.running == 1)
    #expect(next(&table) == nil)
    for load in loads { _ = table.finished(load, .absent) }
    #expect(table.running == 0)
  }

  @Test("What one statement could not tell apart is loaded one by one, before those that wait")
  func alone() throws {
    var (table, loads) = batch()
    for load in loads { _ = table.begins(load) }
    _ = table.finished(loads.removeFirst(), .absent)
    table.repeatAlone(loads)
    #expect(table.running == 0)
    for load in loads {
      let start = next(&table)
      #expect(try #require(start).load == load)
      #expect(table.isAlone(load))
      if load != loads.last {
        let along = table.nextAlong(isThere: { _ in true }, if: { _ in true })
        #expect(along == nil)
      }
      _ = table.begins(load)
      table.sent([load])
      #expect(table.running == 1)
      _ = table.finished(load, .absent)
    }
    let last = next(&table)
    #expect(try #require(last).key == Array("a4".utf8))
  }

  @Test("Only so many may wait to be loaded")
  func full() {
    var table = Table(mostRunning: 1, mostQueued: 1)
    #expect(join(&table, 1) == "waits")
    let other = table.join(Array("user:2".utf8), waiter: 2, arrival: 1, lease: nil, takesValue: true)
    guard case .full = other else {
      Issue.record("\(other)")
      return
    }
    #expect(join(&table, 3) == "waits")
  }

  @Test("While another host loads a key others begin here; once it has appeared all ask again")
  func elsewhere() throws {
    var table = Table(mostRunning: 1)
    _ = join(&table, 1)
    _ = table.join(Array("user:2".utf8), waiter: 2, arrival: 1, lease: nil, takesValue: true)
    let first = next(&table)
    let start = try #require(first)
    table.elsewhere(start.load)
    #expect(join(&table, 3) == "waits")
    _ = try begin(&table)
    #expect(told(table.appeared(start.load)) == ["1 again", "3 again"])
    #expect(table.running == 1)
  }

  @Test("A load that another host did not finish is begun here, and all who came meanwhile were early")
  func takenBack() throws {
    var table = Table(mostRunning: 1)
    _ = join(&table, 1)
    let first = next(&table)
    let start = try #require(first)
    table.elsewhere(start.load)
    _ = join(&table, 2, lease: Self.lease(9))
    table.takeBack(start.load)
    let load = try begin(&table)
    #expect(load == start.load)
    let ended = try end(&table, load, .value("v"))
    #expect(told(ended.releases) == ["1 v", "2 v"])
    #expect(ended.lease == Self.lease(9))
    #expect(table.running == 0)
  }

  @Test(
    "An early refresh is due the sooner the longer a load takes, and never for a key that was not loaded here"
  )
  func early() {
    /// How often of 10,000 times, for a key that was loaded in 1000 ns.
    func share(left: UInt64, beta: Double = 1) -> Int {
      var early = EarlyRefresh(seed: 1)
      early.took(1, 1_000, beta: beta)
      return (0..<10_000).count { _ in early.isDue(1, left: left) }
    }
    // The chance is e to the power of -left / (time * beta).
    #expect(share(left: 0) == 10_000)
    #expect((3_480...3_880).contains(share(left: 1_000)))
    #expect((1_200...1_510).contains(share(left: 2_000)))
    #expect((3_480...3_880).contains(share(left: 2_000, beta: 2)))
    #expect(share(left: 37_000) == 0)
    var early = EarlyRefresh(capacity: 2)
    early.took(1, 1_000, beta: 1)
    let isUnknownDue = early.isDue(2, left: 0)
    #expect(!isUnknownDue)
    early.took(2, 1, beta: 1)
    early.took(3, 1, beta: 1)
    let isForgottenDue = early.isDue(1, left: 0)
    #expect(!isForgottenDue)
  }
}
