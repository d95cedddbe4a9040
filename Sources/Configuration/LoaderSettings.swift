/// How the sidecar's own statements reach PostgreSQL: those of `load`, and those of `write`.
public struct LoaderSettings: Sendable {
  /// A libpq connection string or URL; `postgres.url` if the file gives none of its own. A secret, as there.
  public var url: Secret
  /// `postgres.password` if the file gives no url of its own.
  public var password: Secret?
  /// How many connections each sidecar opens at most for loads, and as many again for writes, 1 to 64.
  public var connections: Int
  /// How long one statement may take, in nanoseconds; a cache's `load` may say otherwise.
  public var timeout: UInt64
  /// Whether `url` is a standby. Then a value is as old as what the standby had replayed before the statement
  /// began, and what `write` runs goes to `postgres.url` instead.
  public var isReplica: Bool

  public init(
    url: Secret, password: Secret?, connections: Int = 4, timeout: UInt64 = 2_000_000_000,
    isReplica: Bool = false
  ) {
    self.url = url
    self.password = password
    self.connections = connections
    self.timeout = timeout
    self.isReplica = isReplica
  }
}
