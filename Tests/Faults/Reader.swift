import TestSupport

/// An application on one host that reads rows through the cache and fills what it misses.
///
/// It keeps to the contract: the miss comes first, then a new READ COMMITTED statement of its own, then the SET,
/// no later than half the window after the miss; or it uses leases.
struct Reader {
  private let cluster: Cluster
  private let host: Host
  private let leases: Bool
  private let batch: Int
  private var random: Random
  private var client: RESPClient?
  private var sql: SQLClient?
  private let requests: [[UInt8]]

  private(set) var reads: [History.Read] = []
  private(set) var allReads = 0
  /// By number: the moment it begins with, divided by its width.
  private(set) var windows: [Int: History.Window] = [:]
  private(set) var troubles: [String: Int] = [:]

  /// Rows loaded after one batch, so that a fleet that bypasses everything does not drown PostgreSQL.
  private static let mostLoads = 16

  init(cluster: Cluster, host: Host, leases: Bool, batch: Int, seed: UInt64) {
    self.cluster = cluster
    self.host = host
    self.leases = leases
    self.batch = batch
    random = Random(seed: seed)
    requests = (0...cluster.options.keys).map { key in
      RESPClient.encode(leases ? ["NEARSIDE", "LEASE", cluster.key(key)] : ["GET", cluster.key(key)])
    }
  }

  /// One batch of reads, and the fills that follow from it.
  mutating func turn() {
    // A third of the keys gets most of the reads.
    let keys = (0..<batch).map { _ in
      let share = Double.random(in: 0..<1, using: &random)
      return 1 + min(cluster.options.keys - 1, Int(share * share * Double(cluster.options.keys)))
    }
    let began = bootMoment()
    var missed: [(key: Int, token: String)] = []
    var hits = 0
    do {
      let client = try connected()
      try client.send(raw: keys.flatMap { requests[$0] })
      for key in keys {
        let reply = try client.receive()
        let ended = bootMoment()
        switch answer(reply) {
        case .value(let version, let operation):
          hits += 1
          reads.append(
            .init(
              key: key, version: version, operation: operation, began: began, ended: ended, host: host.number)
          )
        case .absent(let token):
          if !missed.contains(where: { $0.key == key }) { missed.append((key, token)) }
        case .error(let text): trouble("reader: \(text.prefix(60))")
        }
      }
    } catch {
      trouble("reader: no answer")
      client = nil
      missed = []
      sleep(.milliseconds(20))
    }
    count(keys.count, hits: hits, at: began)
    if !missed.isEmpty { fill(missed, began: began) }
  }

  /// A sidecar that stands still is given up soon, so that the first thing it answers afterwards is a young request.
  private mutating func connected() throws -> RESPClient {
    if let client { return client }
    let made = try host.client(timeout: .milliseconds(600))
    client = made
    return made
  }

  private mutating func count(_ reads: Int, hits: Int, at moment: Moment) {
    allReads += reads
    let number = Int(moment / Workload.window)
    let from = Moment(number) * Workload.window
    windows[
      number, default: History.Window(host: host.number, from: from, to: from + Workload.window)
    ].reads += reads
    windows[number]?.hits += hits
  }

  private mutating func trouble(_ text: String) { troubles[text, default: 0] += 1 }

  private enum Answer {
    case value(version: Int, operation: Int)
    case absent(token: String)
    case error(String)
  }

  private func answer(_ reply: Reply) -> Answer {
    var value = reply
    var token = ""
    if leases, case .array(let pair) = reply, pair.count == 2 {
      value = pair[0]
      token = pair[1].text ?? ""
    }
    switch value {
    case .bulk(let bytes):
      guard let (version, operation) = Self.parse(bytes) else { return .error("not a value: \(value)") }
      return .value(version: version, operation: operation)
    case .null: return .absent(token: token)
    case .error(let text): return .error(text)
    default: return .error("\(value)")
    }
  }

  /// `version:operation`.
  static func parse(_ bytes: [UInt8]) -> (Int, Int)? {
    var numbers = [0, 0]
    var at = 0
    for byte in bytes {
      if byte == UInt8(ascii: ":"), at == 0 {
        at = 1
      } else if byte >= 48, byte <= 57 {
        numbers[at] = numbers[at] * 10 + Int(byte - 48)
      } else {
        return nil
      }
    }
    return at == 1 ? (numbers[0], numbers[1]) : nil
  }

  private mutating func fill(_ missed: [(key: Int, token: String)], began: Moment) {
    let wanted = missed.filter { !leases || !$0.token.isEmpty }.prefix(Self.mostLoads)
    guard !wanted.isEmpty else { return }
    var commands: [[String]] = []
    do {
      if sql == nil { sql = try SQLClient(cluster.url + "&application_name=reader") }
      let list = wanted.map { "\($0.key)" }.joined(separator: ",")
      let rows =
        try sql?.query("SELECT id, v, op FROM public.kv WHERE id = ANY ($1::int[])", ["{\(list)}"]) ?? []
      for row in rows {
        guard let key = row[0].flatMap({ Int($0) }), let version = row[1], let operation = row[2],
          let token = wanted.first(where: { $0.key == key })?.token
        else { continue }
        let value = "\(version):\(operation)"
        commands.append(
          leases
            ? ["NEARSIDE", "FILL", cluster.key(key), token, value, "PX", "600000"]
            : ["SET", cluster.key(key), value, "EX", "600"])
      }
    } catch {
      trouble("reader: no row")
      sql = nil
      return
    }
    // The application's own promise: a plain SET comes soon after its miss.
    guard leases || bootMoment() - began < .milliseconds(UInt64(cluster.options.window / 2)) else { return }
    do {
      for case .error(let text) in try client?.pipeline(commands) ?? [] {
        trouble("fill: \(text.prefix(60))")
      }
    } catch {
      client = nil
    }
  }
}
