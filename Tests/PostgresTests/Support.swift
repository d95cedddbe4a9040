import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Postgres

/// The server that most tests share; each works in a database of its own.
private let shared = Result { try PostgresServer(settings: ["max_replication_slots": "100"]) }

/// A database of its own, a slot and a publication whose names nobody else uses.
struct Place {
  let server: PostgresServer
  let database: String

  init(_ server: PostgresServer? = nil) throws {
    self.server = try server ?? shared.get()
    database = try self.server.createDatabase()
  }

  var slot: String { "slot_" + database }
  var publication: String { "pub_" + database }

  func settings(user: String = "postgres", mode: SlotSettings.Mode = .durable) -> PostgresSettings {
    PostgresSettings(
      url: Secret(server.url(user: user, database: database)), password: nil, publication: publication,
      slot: SlotSettings(name: slot, mode: mode))
  }

  func sql(user: String = "postgres") throws -> SQLSession { try SQLSession(settings(user: user)) }
  func stream(user: String = "postgres") throws -> ReplicationStream {
    try ReplicationStream(settings(user: user))
  }

  @discardableResult
  func psql(_ sql: String) throws -> String { try server.psql(sql, database: database) }

  /// A table `t`, the publication for it and the slot.
  func prepare() throws {
    try psql(
      """
      CREATE TABLE t (id int PRIMARY KEY, v text);
      CREATE PUBLICATION \(publication) FOR TABLE t;
      SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput');
      """)
  }

  func request(_ tables: [String], role: String? = nil, namespace: String? = "shop") -> SetupRequest {
    SetupRequest(
      postgres: settings(), namespace: namespace,
      tables: tables.map { TableName(schema: "public", name: $0) }, role: role)
  }
}

/// The error that `body` throws; a test fails if there is none.
func failure(_ body: () throws -> Void) -> PostgresError? {
  do {
    try body()
  } catch let error as PostgresError {
    return error
  } catch let error as DrainError<Never> {
    switch error {
    case .connection(let error): return error
    }
  } catch {
    Issue.record("another error: \(error)")
    return nil
  }
  Issue.record("no error")
  return nil
}

/// Drains until `enough` says yes of the tags of pgoutput's messages so far, or of the keepalives.
func collect(
  _ stream: inout ReplicationStream, limit: Int = 1000, until enough: (Collected) -> Bool
) throws -> Collected {
  var all = Collected()
  let deadline = monotonicNanoseconds() + 15_000_000_000
  while !enough(all) {
    let left = try stream.drain(limit: limit) { (message) throws(Never) in
      switch message {
      case .data(let start, _, let payload):
        all.tags.append(Character(UnicodeScalar(payload[0])))
        all.bytes += payload.count
        all.last = start
        // A Commit: flags, then the commit record's position, then its end.
        if payload[0] == UInt8(ascii: "C") {
          all.end = LSN(UInt64(bigEndian: payload.loadUnaligned(fromByteOffset: 10, as: UInt64.self)))
        }
      case .keepalive(let end, let asks):
        all.keepalives += 1
        all.asked += asks ? 1 : 0
        all.serverEnd = end
      }
      return true
    }
    guard case .empty = left, !enough(all) else { continue }
    guard waitForSocket(stream.descriptor, alsoWritable: stream.wantsToWrite, deadline: deadline) else {
      throw HarnessError("not in time; so far \(all)")
    }
  }
  return all
}

struct Collected {
  var tags = ""
  /// Without the descriptions of tables, which the server repeats whenever it likes.
  var changes: String { tags.filter { $0 != "R" } }
  var bytes = 0
  var keepalives = 0
  var asked = 0
  var last = LSN.zero
  var end = LSN.zero
  var serverEnd = LSN.zero
}

/// Small, quick and the same everywhere: SplitMix64 by Sebastiano Vigna.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
