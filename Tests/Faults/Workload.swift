import Dispatch
import Foundation
import Synchronization
import TestSupport

/// Writers, readers and observers that work on a cluster until they are stopped, and what they have seen.
final class Workload: Sendable {
  struct Options: Sendable {
    var writers = 2
    /// Of each writer.
    var pauseOfWriter = Duration.milliseconds(50)
    /// Of each host: one that uses GET and SET, one that uses leases.
    var readers = 2
    /// Reads sent at once, and the pause after them.
    var batch = 25
    var pauseOfReader = Duration.milliseconds(30)
    /// Of each hundred commits, those with `synchronous_commit = off`.
    var asynchronous = 10
  }

  /// The width of the windows in which hits are counted.
  static let window: Moment = .milliseconds(250)

  private struct Results {
    var writes: [History.Write] = []
    var reads: [History.Read] = []
    var windows: [Int: [Int: History.Window]] = [:]
    var allReads = 0
    var ownReads = 0
    var nearHits = 0
    var losses: [History.Loss] = []
    var calms: [History.Calm] = []
    var troubles: [String: Int] = [:]
  }

  let cluster: Cluster
  let options: Options
  private let seed: UInt64
  private let results = Mutex(Results())
  private let monitor = Mutex(StateMonitor())
  private let phase = Atomic<Int>(0)
  private let crew = DispatchGroup()

  init(_ cluster: Cluster, _ options: Options = Options(), seed: UInt64) {
    self.cluster = cluster
    self.options = options
    self.seed = seed
  }

  // MARK: Life

  func start() {
    for number in 0..<options.writers { hire { $0.write(number) } }
    for host in cluster.hosts {
      for number in 0..<options.readers { hire { $0.read(host, number, leases: number % 2 == 1) } }
      hire { $0.count(host) }
    }
    hire { $0.watchState() }
  }

  /// Writers end; readers go on for a moment, end too, and everybody is waited for.
  func stop() {
    phase.store(1, ordering: .relaxed)
    sleep(.milliseconds(500))
    phase.store(2, ordering: .relaxed)
    crew.wait()
  }

  private var writersGoOn: Bool { phase.load(ordering: .relaxed) == 0 }
  private var readersGoOn: Bool { phase.load(ordering: .relaxed) < 2 }

  private func hire(_ work: @escaping @Sendable (Workload) -> Void) {
    crew.enter()
    Thread.detachNewThread { [self] in
      work(self)
      crew.leave()
    }
  }

  // MARK: What the nemesis tells

  /// The state in Redis, or the slot, is about to go back or to jump.
  func doubt() { monitor.withLock { $0.doubt() } }
  /// The fleet has recovered.
  func trust() { monitor.withLock { $0.trust() } }

  func lose(_ what: String, newTimeline: Bool = false) {
    let loss = History.Loss(at: bootMoment(), what: what, newTimeline: newTimeline)
    results.withLock { $0.losses.append(loss) }
  }

  func calm(from: Moment) {
    let calm = History.Calm(from: from, to: bootMoment())
    results.withLock { $0.calms.append(calm) }
  }

  /// What went wrong on the way, and how often: for the report of a run that failed.
  var troubles: [String: Int] { results.withLock { $0.troubles } }
  /// How many writers have read their own writes back.
  var ownReads: Int { results.withLock { $0.ownReads } }
  var stateViolations: [Violation] { monitor.withLock { $0.violations } }
  var stateSamples: Int { monitor.withLock { $0.samples } }
  var generations: Int { monitor.withLock { $0.generations } }

  private func note(_ trouble: String) { results.withLock { $0.troubles[trouble, default: 0] += 1 } }

  // MARK: Writers

  /// Each writer has rows of its own, so that they never wait for each other.
  private func write(_ number: Int) {
    var random = Random(seed: seed &+ UInt64(number))
    var writes: [History.Write] = []
    var client: SQLClient?
    var operation = (number + 1) << 32
    let own = (1...cluster.options.keys).filter { $0 % options.writers == number }
    var reads: [History.Read] = []
    while writersGoOn {
      do {
        if client == nil { client = try SQLClient(cluster.url + "&application_name=writer") }
      } catch {
        note("writer: no connection")
        sleep(.milliseconds(50))
        continue
      }
      guard let sql = client else { continue }
      operation += 1
      let keys = random.oneIn(10) ? (0..<5).map { _ in random.pick(own) } : [random.pick(own)]
      let unique = Set(keys).sorted()
      let isAsynchronous = Int.random(in: 0..<100, using: &random) < options.asynchronous
      let isRolledBack = random.oneIn(20)
      let began = bootMoment()
      do {
        var rows: [[String?]] = []
        let plain = !isAsynchronous && !isRolledBack
        if !plain { try sql.query("BEGIN") }
        if isAsynchronous { try sql.query("SET LOCAL synchronous_commit = off") }
        rows = try sql.query(
          Self.update, ["\(operation)", "{\(unique.map(String.init).joined(separator: ","))}"])
        if !plain { try sql.query(isRolledBack ? "ROLLBACK" : "COMMIT") }
        let told = bootMoment()
        if !isRolledBack {
          for row in rows {
            guard let key = row[0].flatMap({ Int($0) }), let version = row[1].flatMap({ Int($0) }) else {
              continue
            }
            writes.append(
              .init(key: key, operation: operation, version: version, began: began, acknowledged: told))
          }
          if random.oneIn(8), let key = unique.first,
            let position = try sql.value("SELECT pg_current_wal_insert_lsn()"),
            let read = readBack(key, operation, position, random.pick(cluster.hosts))
          {
            reads.append(read)
          }
        }
      } catch {
        note("writer: \((error as? SQLClient.Failure)?.code ?? "?")")
        // It may be committed all the same.
        for key in unique {
          writes.append(.init(key: key, operation: operation, version: nil, began: began, acknowledged: nil))
        }
        client = nil
        sleep(.milliseconds(50))
      }
      sleep(options.pauseOfWriter)
    }
    let (allWrites, allReads) = (writes, reads)
    results.withLock {
      $0.writes += allWrites
      $0.reads += allReads
      $0.ownReads += allReads.count
    }
  }

  /// A writer that reads its own write: it waits until a host has applied it, and reads there. Nil if that host does
  /// not get that far soon, or has no value.
  private func readBack(_ key: Int, _ operation: Int, _ position: String, _ host: Host) -> History.Read? {
    guard let client = try? host.client(timeout: .milliseconds(800)),
      (try? client.call("NEARSIDE", "WAIT", position, "500")) == 1
    else { return nil }
    // Until a reader has filled it again there is nothing to see.
    sleep(.milliseconds(60))
    let began = bootMoment()
    guard case .bulk(let bytes)? = try? client.call("GET", cluster.key(key)),
      let (version, found) = Reader.parse(bytes)
    else { return nil }
    return .init(
      key: key, version: version, operation: found, began: began, ended: bootMoment(), host: host.number,
      waitedFor: operation)
  }

  private static let update = """
    WITH changed AS (
      UPDATE public.kv SET v = v + 1, op = $1::bigint WHERE id = ANY ($2::int[]) RETURNING id, v),
    logged AS (INSERT INTO public.kv_log SELECT id, v, $1::bigint FROM changed)
    SELECT id, v FROM changed
    """

  // MARK: Readers

  private func read(_ host: Host, _ number: Int, leases: Bool) {
    var reader = Reader(
      cluster: cluster, host: host, leases: leases, batch: options.batch,
      seed: seed &+ 1000 &+ UInt64(host.number * 10 + number))
    while readersGoOn {
      reader.turn()
      sleep(options.pauseOfReader)
    }
    let done = reader
    results.withLock {
      $0.reads += done.reads
      $0.allReads += done.allReads
      for (number, window) in done.windows {
        var all = $0.windows[host.number]?[number]
        all?.reads += window.reads
        all?.hits += window.hits
        $0.windows[host.number, default: [:]][number] = all ?? window
      }
      for (trouble, count) in done.troubles { $0.troubles[trouble, default: 0] += count }
    }
  }

  // MARK: Observers

  /// Adds up the near hits that a host reports; a host that was started again counts from zero.
  private func count(_ host: Host) {
    var last = 0
    var total = 0
    while readersGoOn {
      if let status = try? host.status(timeout: .milliseconds(500)),
        let hits = status["near_hits"].flatMap({ Int($0) })
      {
        total += hits >= last ? hits - last : hits
        last = hits
      }
      sleep(.milliseconds(100))
    }
    let sum = total
    results.withLock { $0.nearHits += sum }
  }

  /// Samples the fleet's state at the master itself every few milliseconds.
  private func watchState() {
    var client: RESPClient?
    var socket = ""
    var sql: SQLClient?
    var turn = 0
    var confirmed: UInt64?
    while readersGoOn {
      turn += 1
      // Read before the state, so that a V that is younger cannot excuse it; and not with every sample.
      confirmed = nil
      if turn % 10 == 0 {
        do {
          if sql == nil { sql = try SQLClient(cluster.url) }
          confirmed = try sql?.value(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1", [cluster.slot]
          ).flatMap(Self.position)
        } catch {
          sql = nil
        }
      }
      let present = cluster.redis.socket
      if present != socket || client == nil {
        socket = present
        client = try? RESPClient(present, timeout: .milliseconds(500))
      }
      do {
        if let fields = try client?.call("HMGET", cluster.stateKey, "g", "W", "V", "h", "n", "jl", "wt")
          .elements,
          let sample = Self.sample(fields.map(\.text), confirmed: confirmed), present == cluster.redis.socket
        {
          monitor.withLock { $0.see(sample) }
        }
      } catch {
        client = nil
      }
      sleep(.milliseconds(5))
    }
  }

  /// `0/16B3748` as a number.
  private static func position(_ text: String) -> UInt64? {
    let halves = text.split(separator: "/").compactMap { UInt64($0, radix: 16) }
    return halves.count == 2 ? halves[0] << 32 | halves[1] : nil
  }

  private static func sample(_ fields: [String?], confirmed: UInt64?) -> StateMonitor.Sample? {
    guard fields.count == 7, let generation = fields[0], let w = fields[1].flatMap({ UInt64($0, radix: 16) }),
      let v = fields[2].flatMap({ UInt64($0, radix: 16) }), let h = fields[3].flatMap({ UInt64($0) }),
      let n = fields[4].flatMap({ UInt64($0) })
    else { return nil }
    return .init(
      at: bootMoment(), generation: generation, applied: w, visible: v, beats: h, count: n,
      journal: (fields[5] ?? "").split(separator: "-").compactMap { UInt64($0) }, watching: fields[6] == "1",
      confirmed: confirmed)
  }

  // MARK: The end

  /// Everything seen, once the workload has been stopped and the fleet has come to rest.
  func history() throws -> History {
    var history = History(bound: .milliseconds(UInt64(cluster.options.bound)))
    results.withLock {
      history.writes = $0.writes
      history.reads = $0.reads
      history.allReads = $0.allReads
      history.nearHits = $0.nearHits
      history.losses = $0.losses
      history.calms = $0.calms
      history.windows = $0.windows.values.flatMap(\.values)
    }
    let sql = try SQLClient(cluster.url)
    for key in 1...cluster.options.keys { history.chains[key] = [0] }
    for row in try sql.query("SELECT id, v, op FROM public.kv_log ORDER BY id, v") {
      guard let key = row[0].flatMap({ Int($0) }), let version = row[1].flatMap({ Int($0) }),
        let operation = row[2].flatMap({ Int($0) }), history.chains[key]?.count == version
      else { throw HarnessError("the versions of \(row) are not dense") }
      history.chains[key]?.append(operation)
    }
    for row in try sql.query("SELECT id, v, op FROM public.kv") {
      guard let key = row[0].flatMap({ Int($0) }), let chain = history.chains[key],
        row[1] == "\(chain.count - 1)", row[2] == "\(chain[chain.count - 1])"
      else { throw HarnessError("row \(row) is not the last of its log") }
    }
    history.copies = try copies()
    return history
  }

  /// What is in Redis and what each host answers, for every key.
  private func copies() throws -> [History.Copy] {
    var all: [History.Copy] = []
    func take(_ place: String, _ client: RESPClient) throws {
      let keys = Array(1...cluster.options.keys)
      let replies = try client.pipeline(keys.map { ["GET", cluster.key($0)] })
      for (key, reply) in zip(keys, replies) {
        guard case .bulk(let bytes) = reply, let (version, operation) = Reader.parse(bytes) else { continue }
        all.append(.init(place: place, key: key, version: version, operation: operation))
      }
    }
    for host in cluster.hosts { try take("host \(host.number)", host.client()) }
    try take("Redis", cluster.redis.client())
    return all
  }
}
