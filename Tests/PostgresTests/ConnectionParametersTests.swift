import Configuration
import Testing

@testable import Postgres

@Suite("Connection parameters")
struct ConnectionParametersTests {
  private func parameters(
    _ url: String, password: String? = nil, _ purpose: ConnectionParameters.Purpose = .sql,
    environment: [String: String] = [:]
  ) throws -> ConnectionParameters {
    try ConnectionParameters(
      url: Secret(url), password: password.map { Secret($0) }, purpose: purpose
    ) { environment[$0] }
  }

  @Test("Without a string, libpq's own variables decide where to")
  func empty() throws {
    let found = try parameters("")
    #expect(found["host"] == nil)
    #expect(found["dbname"] == nil)
    #expect(found["connect_timeout"] == "5")
    #expect(found["fallback_application_name"] == "nearside")
    #expect(found["replication"] == nil)
  }

  @Test("A walsender is asked for, whatever form the string has")
  func replication() throws {
    for url in ["postgresql://u@h:5433/shop?application_name=x", "host=h port=5433 dbname=shop user=u"] {
      let found = try parameters(url, .replication)
      #expect(found["replication"] == "database")
      #expect(found["host"] == "h")
      #expect(found["port"] == "5433")
      #expect(found["dbname"] == "shop")
      #expect(found["options"]?.contains("-c wal_sender_timeout=5s") == true)
    }
    #expect(try parameters("postgresql://h/shop?replication=database")["replication"] == nil)
  }

  @Test("The user's options stay, and ours come after them")
  func options() throws {
    let url = "host=h options='-c statement_timeout=1s -c timezone=Asia/Tokyo'"
    let options = try #require(try parameters(url)["options"])
    #expect(options.hasPrefix("-c statement_timeout=1s -c timezone=Asia/Tokyo -c datestyle=ISO "))
    #expect(options.contains(" -c timezone=UTC "))
    let inherited = try parameters("", environment: ["PGOPTIONS": "-c work_mem=8MB"])["options"]
    #expect(inherited?.hasPrefix("-c work_mem=8MB -c datestyle=ISO") == true)
  }

  @Test("What the user set is not overruled by defaults")
  func defaults() throws {
    #expect(try parameters("host=h connect_timeout=60")["connect_timeout"] == "60")
    #expect(try parameters("host=h", environment: ["PGCONNECT_TIMEOUT": "7"])["connect_timeout"] == nil)
    #expect(try parameters("host=h keepalives=0")["keepalives"] == "0")
    #expect(try parameters("host=a,b")["target_session_attrs"] == "primary")
    #expect(try parameters("host=a,b target_session_attrs=any")["target_session_attrs"] == "any")
    #expect(try parameters("host=a")["target_session_attrs"] == nil)
    let replicas = try parameters("host=a,b", .loads(replica: true))
    #expect(replicas["target_session_attrs"] == "prefer-standby")
  }

  @Test("A password of its own wins over the string's")
  func password() throws {
    #expect(try parameters("postgresql://u:old@h/d", password: "new")["password"] == "new")
    #expect(try parameters("postgresql://u:old@h/d")["password"] == "old")
  }

  @Test(
    "A string that cannot be read is never quoted",
    arguments: [
      "postgresql://u:s3cret/word@h/d", "postgresql://u:s3cret@word@h/d", "postgresql://u:12/s3cret@h?x",
      "postgresql://u:12/s3cret@h/d", "postgresql://u:s3cret%word@h/d",
      "host=h password=s3cret word", "host=h s3cret=word", "s3cretword", "host=h port=s3cret",
    ])
  func unreadable(_ url: String) {
    let error = failure { _ = try parameters(url) }
    #expect(error?.kind == .badConnectionString)
    #expect("\(error as Any)".contains("s3cret") == false)
    #expect(error?.description.contains("percent-encoded") == true)
  }

  @Test("An @ after the question mark or percent-encoded is fine")
  func atSigns() throws {
    #expect(try parameters("postgresql://u:p%40w@h/d?application_name=a@b")["password"] == "p@w")
    #expect(try parameters("postgresql://u:p?w@h/d")["password"] == "p?w")
    #expect(try parameters("postgresql://u@/d?host=/tmp")["host"] == "/tmp")
    #expect(try parameters("postgresql://a:1,b:2/d")["port"] == "1,2")
  }
}
