import CLinux
import Invalidation
import Postgres

/// Why the tail rests, as a sentence for the log and for NEARSIDE STATUS.
struct TailTrouble: Error {
  var sentence: String
  var isMissingPublication = false
  /// PostgreSQL cannot be reached, or is not up.
  var isPostgresAway = false
  /// This sidecar held the slot and could not use it: others may try before it does so again.
  var othersFirst = false

  init(sentence: String) { self.sentence = sentence }

  init(_ error: PostgresError) {
    sentence = error.description
    // Of the codes of class 57P those that tell of a server that stops or starts.
    isPostgresAway =
      [.unreachable, .connectionLost, .timedOut].contains(error.kind)
      || error.sqlState?.hasPrefix("57P") == true
    isMissingPublication = error.kind == .publicationMissing
  }

  init(_ error: SinkError) {
    sentence = error.description
    // A connection that was closed is likely to be had again; if it is not, the slot is not taken.
    othersFirst = error.cause != .closed
  }
}

func bootClock() -> Instant { Instant(nanoseconds: clinux_boot_nanoseconds()) }

/// Turns an error of PostgreSQL into trouble.
func trouble<Result: ~Copyable>(
  _ body: () throws(PostgresError) -> Result
) throws(TailTrouble) -> Result {
  do throws(PostgresError) { return try body() } catch { throw TailTrouble(error) }
}
