import Configuration
import Synchronization

extension StatementPool {
  /// Makes connections on threads of their own: looking up a name, a handshake and a login can take seconds each,
  /// and libpq has no way to look a name up without waiting.
  struct Connector: Sendable {
    let url: Secret
    let password: Secret?
    let access: Access
    /// What statement_timeout the sessions begin with, in milliseconds.
    let timeout: UInt64
    /// Runs something on a thread of its own; false if the system refuses one.
    let spawn: @Sendable (@escaping @Sendable () -> Void) -> Bool
    /// Called when an attempt has ended, on its thread.
    let wake: @Sendable () -> Void

    func begin() -> Attempt {
      let attempt = Attempt()
      let started = spawn {
        attempt.make { () throws(PostgresError) in try connect() }
        wake()
      }
      if !started {
        attempt.make { () throws(PostgresError) in
          throw PostgresError(
            kind: .unreachable, what: "No thread can be started to connect to PostgreSQL", place: "",
            fix: "Raise the limit of processes.")
        }
        wake()
      }
      return attempt
    }

    private func connect() throws(PostgresError) -> PostgresConnection {
      let purpose: ConnectionParameters.Purpose =
        switch access {
        case .reads(let replica): .loads(replica: replica)
        case .writes: .writes
        }
      let connection = try PostgresConnection.connect(url: url, password: password, purpose)
      let facts = try connection.run(
        "SELECT pg_catalog.pg_is_in_recovery(), "
          + "pg_catalog.set_config('statement_timeout', '\(timeout)', false)", nil, .query)
      if access != .reads(replica: true), facts.first?[0] == "t" {
        throw PostgresError(
          kind: .server, what: "The server is a replica, whose rows may be older than what the log has told",
          place: connection.place,
          fix: access == .writes
            ? "Name the primary in \(purpose.setting)."
            : "Name the primary in \(purpose.setting), or set postgres.loader.replica to true.")
      }
      return connection
    }
  }

  /// One attempt to connect. The thread that makes it holds the lock for as long as it takes; the pool's thread
  /// never waits for it.
  final class Attempt: Sendable {
    enum Outcome: ~Copyable {
      case pending
      case ready(PostgresConnection)
      case failed(PostgresError)
    }

    private let outcome = Mutex<Outcome>(.pending)

    fileprivate func make(_ connect: () throws(PostgresError) -> PostgresConnection) {
      outcome.withLock { outcome in
        do throws(PostgresError) {
          outcome = .ready(try connect())
        } catch {
          outcome = .failed(error)
        }
      }
    }

    /// What came of it, once; `pending` as long as it is under way.
    func take() -> Outcome {
      outcome.withLockIfAvailable { outcome in
        var taken = Outcome.pending
        swap(&taken, &outcome)
        return taken
      } ?? .pending
    }
  }
}
