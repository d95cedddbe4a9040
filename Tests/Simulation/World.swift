import Configuration
import Invalidation

/// Everything there is in one run, and its time.
final class World {
  let seed: UInt64
  var random: SplitMix
  let swarm: Swarm
  let weakness: Weaknesses
  private(set) var now: UInt64 = 1_000_000_000
  private var agenda = Agenda()
  private(set) var steps = 0

  var oracle = Oracle()
  let mapping: Mapping
  var keys: [Key] { mapping.keys }
  let keyNamed: [String: Key]
  var rowCount: Int { mapping.rowCount }
  /// What no row stands behind: an application changes it and deletes the key then.
  var externals: [Int]
  private var ownPostgres: SimulatedPostgres?
  private var ownRedis: SimulatedRedis?
  private(set) var hosts: [Host] = []
  var tailers = 0
  /// Under which definitions each generation was begun.
  var definitions: [Generation: Int] = [:]

  private(set) var violation: String?
  var isQuiet = false
  private var slow = 0
  private let traces: Bool
  private var trace: [String] = []
  private(set) var counts: [String: Int] = [:]
  private(set) var nearHits = 0
  private(set) var redisHits = 0
  var misses = 0

  /// How long a change of definitions that nothing tells of may go unnoticed: a fingerprint is asked for once a
  /// second.
  let silentGrace: UInt64 = 2_500_000_000

  init(seed: UInt64, weakness: Weaknesses, traces: Bool = false) {
    self.seed = seed
    self.weakness = weakness
    self.traces = traces
    random = SplitMix(state: seed)
    swarm = Swarm(&random)
    mapping = Mapping(keys: swarm.keys, written: swarm.written, hasGroups: swarm.hasGroups)
    keyNamed = Dictionary(uniqueKeysWithValues: mapping.keys.map { ($0.name, $0) })
    externals = []
    externals = mapping.keys.map { _ in oracle.make() }
    ownPostgres = SimulatedPostgres(self)
    ownRedis = SimulatedRedis(self, weakness: weakness.scripts)
    for number in 0..<swarm.hosts { hosts.append(Host(self, number: number)) }
    // Mostly the fleet is at work when the applications come.
    let start = random.once(in: 4) ? now : now + 1_500_000_000 + swarm.window
    at(start) { [self] in
      for host in hosts { for _ in 0..<swarm.flows { Flow(host).begin() } }
      scheduleFaults()
    }
    scheduleCommit()
    watchWalsender()
  }

  var postgres: SimulatedPostgres {
    guard let ownPostgres else { preconditionFailure("the world is not made yet") }
    return ownPostgres
  }

  var redis: SimulatedRedis {
    guard let ownRedis else { preconditionFailure("the world is not made yet") }
    return ownRedis
  }

  // MARK: Time

  func at(_ time: UInt64, _ body: @escaping () -> Void) { agenda.enter(max(time, now), body) }

  /// One step; false if nothing is left or something has gone wrong.
  func step() -> Bool {
    guard violation == nil, let (time, body) = agenda.next() else { return false }
    now = time
    steps += 1
    body()
    return violation == nil
  }

  func run(steps limit: Int) {
    while steps < limit, step() {}
    if violation == nil { rest() }
    // What is entered refers to what is here.
    agenda = Agenda()
  }

  // MARK: Chances

  func latency(_ host: Host) -> UInt64 {
    if slow == 0 {
      // At rest nothing is late: hosts are to have evidence without a gap for long enough to fill every key again.
      let late = swarm.jitter > 0 && !isQuiet && random.once(in: 16) ? random.below(swarm.jitter) : 0
      return 20_000 + random.below(150_000 as UInt64) + late
    }
    return random.once(in: 8) ? random.below(400_000_000 as UInt64) : random.below(8_000_000 as UInt64)
  }

  func lags() -> Bool {
    !isQuiet && swarm.lags > 0 && random.below(400) < swarm.lags
  }

  /// After how long the other side notices that a connection is gone.
  func noticeDelay() -> UInt64 {
    random.once(in: 4) ? random.below(2_000_000_000 as UInt64) : random.below(3_000_000 as UInt64)
  }

  /// A time around `mean`.
  func around(_ mean: UInt64) -> UInt64 { random.below(2 * mean) + 1 }

  func shuffle(_ all: inout [Int]) {
    for index in all.indices { all.swapAt(index, random.below(all.count)) }
  }

  var keepsImages: Bool {
    let failovers: [Swarm.Fault] = [.failover, .failoverBehindProxy]
    return swarm.strikes + swarm.sweepStrikes > 0
      || failovers.contains { swarm.faults[$0.rawValue] != nil || swarm.storm.contains($0) }
  }

  func slowDown(for time: UInt64) {
    slow += 1
    at(now + time) { [self] in slow -= 1 }
  }

  // MARK: PostgreSQL's applications

  /// What a transaction that changes these rows clears one by one.
  func keys(ofRows rows: [Int]) -> [Int] {
    let alone = rows.filter { mapping.groupOfRow[$0] == nil }
    return keys.filter { key in key.rows.contains { alone.contains($0) } }.map(\.number)
  }

  func groups(ofRows rows: [Int]) -> [[UInt8]] { rows.compactMap { mapping.groupOfRow[$0] } }

  private func scheduleCommit() {
    at(now + around(swarm.commitPeriod)) { [self] in
      if isQuiet { return }
      postgres.beginSomething()
      scheduleCommit()
    }
  }

  /// wal_sender_timeout.
  private func watchWalsender() {
    at(now + 1_000_000_000) { [self] in
      if let walsender = postgres.slot?.walsender, now - walsender.heard > 5_000_000_000 { walsender.end() }
      watchWalsender()
    }
  }

  /// What a new statement reads for `key`; nil while PostgreSQL is down.
  func read(_ key: Key) -> String? {
    guard postgres.isUp else { return nil }
    if key.isWritten { return Oracle.text([postgres.rows[key.rows[0]]]) }
    return Oracle.text(key.rows.map { postgres.rows[$0] } + [externals[key.number]])
  }

  // MARK: Verdicts

  func fail(_ what: String) {
    if violation == nil { violation = what }
    note("VIOLATION \(what)")
  }

  func note(_ what: @autoclosure () -> String) {
    guard traces else { return }
    let milliseconds = Double(now / 1000) / 1000
    trace.append("\(milliseconds)  \(what())")
  }

  func lastNotes(_ count: Int) -> ArraySlice<String> { trace.suffix(count) }

  func count(_ what: String) { counts[what, default: 0] += 1 }

  /// A host has answered with `text`.
  func hit(_ text: String, _ host: Host, near: Bool, _ key: Key) {
    if near { nearHits += 1 } else { redisHits += 1 }
    let bound = host.worldly(swarm.bound)
    let before = now > bound ? now - bound : 0
    note("\(host.number): \(near ? "near" : "Redis") hit of \(key.name): \(text)")
    check(text, before: before, "\(near ? "near" : "Redis") hit of \(key.name) on host \(host.number)")
  }

  /// `rowsOnly`: not what no row stands behind.
  func check(_ text: String, before: UInt64, rowsOnly: Bool = false, _ what: String) {
    // A DEL that Redis has lost is not repeated until a new generation begins, of which a host hears within the bound.
    let ignoringLast = rowsOnly || redis.wasDoubted(within: 2 * swarm.bound)
    guard let version = oracle.isOutdated(text, before: before, ignoringLast: ignoringLast) else { return }
    let age = (now - (oracle.superseded(version) ?? now)) / 1000
    fail("\(what): version \(version) of \(text) was replaced \(Double(age) / 1000) ms ago")
  }
}
