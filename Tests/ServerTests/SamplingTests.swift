import Configuration
import Testing

@testable import Server

@Suite("Which hits the audit is given")
struct SamplingTests {
  @Test(
    "Every place among hits that come together is drawn now and then, and about as often as was asked for")
  func places() {
    var sampling = Sampling(share: 0.01)
    var places: [Int: Int] = [:]
    for _ in 0..<20_000 { if let drawn = sampling.takes(16) { places[drawn, default: 0] += 1 } }
    #expect(Set(places.keys) == Set(0..<16))
    let count = places.values.reduce(0, +)
    #expect((2_500...3_900).contains(count), "\(count) of 320,000 at 1 %")
  }

  @Test("With a share of nothing none is, and with all of it each that comes alone")
  func ends() {
    var none = Sampling(share: 0)
    var all = Sampling(share: 1)
    for _ in 0..<1000 {
      #expect(none.takes(16) == nil)
      #expect(all.takes(1) == 0)
    }
  }

  @Test("What is written behind is not compared: its row may rightly be older than what is served")
  func writtenBehind() throws {
    func plan(_ write: String) throws -> AuditPlan {
      let text = """
        { "namespace": "n", "postgres": { "url": "postgresql:///n" }, "redis": { "url": "unix:///r" },
          "caches": { "user:{id}": { "load": "SELECT name FROM users WHERE id = :id"\(write) } },
          "tables": { "users": "user:{id}" } }
        """
      let reading = ConfigurationReader.read(
        Array(text.utf8), file: "c", environment: [:], readFile: { _ in nil })
      return AuditPlan(try #require(reading.settings, "\(reading.report.text(outcome: ""))"))
    }
    let key = Array("n:user:1".utf8)
    let sql = "UPDATE users SET name = :value WHERE id = :id"
    #expect(try plan("").job(for: key)?.template == "user:{id}")
    #expect(try plan(#", "write": { "policy": "through", "sql": "\#(sql)" }"#).job(for: key) != nil)
    #expect(try plan(#", "write": { "policy": "behind", "sql": "\#(sql)" }"#).job(for: key) == nil)
  }
}
