import Configuration
import Glibc

extension PostgresSettings {
  /// The role that these settings log in as: named by the connection string, else by PGUSER; nil where libpq
  /// would take the name of the operating system's user.
  public func role() throws(PostgresError) -> String? {
    let given = try ConnectionParameters(url: url, password: password, purpose: .sql)["user"]
    return given ?? getenv("PGUSER").map { String(cString: $0) }
  }
}
