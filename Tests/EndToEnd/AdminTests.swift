import Foundation
import TestSupport
import Testing

/// The admin endpoint of a running sidecar.
@Suite struct AdminTests {
  static func object(_ answer: HTTPAnswer) throws -> [String: Any] {
    let any = try JSONSerialization.jsonObject(with: Data(answer.body.utf8))
    return try #require(any as? [String: Any])
  }

  /// A figure of /metrics by its line's beginning: the name, and the labels if there are any.
  static func figure(_ line: String, in text: String) -> Double? {
    text.split(separator: "\n").first { $0.hasPrefix(line + " ") }
      .flatMap { Double($0.dropFirst(line.count + 1)) }
  }

  @Test("every page answers, in the form that its readers expect")
  func pages() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let admin = sidecar.admin
    #expect(try admin.get("/livez").body == "ok\n")
    let ready = try admin.get("/readyz")
    #expect(ready.status == 200, "\(ready.body)")
    let strict = try admin.get("/readyz?strict")
    #expect(strict.status == 200, "\(strict.body)")
    #expect(try Self.object(admin.get("/healthz"))["state"] as? String == "ok")
    #expect(try Self.object(admin.get("/version"))["version"] as? String == "0.1.0")
    let status = try Self.object(admin.get("/status"))
    #expect(status["role"] as? String == "tailer")
    #expect(status["namespace"] as? String == world.database)
    let metrics = try admin.get("/metrics")
    #expect(metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
    #expect(metrics.body.contains("nearside_replication_connected 1\n"))
    let open = try admin.get("/metrics", headers: ["Accept": "application/openmetrics-text; version=1.0.0"])
    #expect(open.headers["content-type"]?.hasPrefix("application/openmetrics-text") == true)
    #expect(open.body.hasSuffix("# EOF\n"))
    #expect(try admin.get("/").headers["content-type"] == "text/html; charset=utf-8")
    #expect(try admin.get("/nothing").status == 404)
    #expect(try admin.request("POST", "/status").status == 405)
    let reload = try admin.request("POST", "/reload")
    #expect(reload.status == 200 && reload.body.contains(#""changed":[],"needs_restart":[]"#), "\(reload)")
  }

  @Test("the configuration is shown without a secret")
  func configuration() throws {
    let world = try World(
      options: [#""log": { "level": "debug" }"#, #""postgres": { "password": "hunter2hunter2" }"#])
    let sidecar = try world.sidecar()
    let text = try sidecar.admin.get("/config").body
    #expect(text.contains(#""level":"debug""#))
    #expect(text.contains(#""password":"***""#))
    #expect(!text.contains("hunter2"))
    #expect(!text.contains(world.postgres.url(database: world.database)))
  }
}
