import Foundation
import Synchronization
import TestSupport
import Testing

/// The live page in Debian's Chromium.
@Suite struct PageTests {
  @Test(
    "the page shows what the sidecar does while it does it, and asks nobody else for anything",
    .enabled(if: Browser.program != nil))
  func live() throws {
    let world = try World(options: [
      #""admin": { "tcp": "127.0.0.1:0" }"#, #""audit": { "share": "1%" }"#,
      #""caches": { "product:{id}": { "load": "SELECT name FROM products WHERE id = :id" } }"#,
    ])
    let sidecar = try world.sidecar()
    let status = try AdminTests.object(sidecar.admin.get("/status"))
    let place = try #require((status["listen"] as? [String: Any])?["admin_tcp"] as? String)
    for id in 1...5 { try sidecar.store(world.key("user:\(id)"), "value") }
    let browser = try Browser()
    try Self.whileLoaded(world, sidecar) {
      try browser.open("http://\(place)/")
      func text(_ id: String) throws -> String {
        try browser.evaluate("document.getElementById('\(id)').textContent")
      }
      func shown(_ what: String, _ id: String, until good: (String) -> Bool) throws -> String {
        try eventually(
          what, within: .seconds(40), every: .milliseconds(200), { try text(id) }, until: good)
      }
      _ = try shown("it is well", "state") { $0 == "Healthy" }
      // A rate takes two answers: the page went on asking, and the figure is of this very load.
      let reads = try shown("reads a second", "reads") { $0 != "–" && $0 != "0" }
      _ = try shown("the rate changes", "reads") { $0 != reads && $0 != "–" }
      _ = try shown("an invalidation scrolls by", "tail") { $0.contains("users update") }
      #expect(try text("caches").contains("user:{id}"))
      #expect(try !text("tail").contains(world.key("user:")), "no key on a TCP address")
      #expect(try browser.evaluate("document.getElementById('run').getAttribute('d')").hasPrefix("M"))
      #expect(try text("parts").contains("tailing"))
      #expect(try text("parts").contains(" of at most 10"), "the slot, with its bound")
      #expect(try text("parts").contains("0 values compared with the database, 0 stale"))
      // On a phone nothing is wider than its screen.
      for isDark in [false, true] {
        try browser.look(width: 390, height: 844, isDark: isDark)
        #expect(try browser.evaluate("document.documentElement.scrollWidth") == "390")
      }
      let light = try browser.evaluate("getComputedStyle(document.body).backgroundColor")
      try browser.look(width: 1280, height: 900, isDark: false)
      #expect(try browser.evaluate("getComputedStyle(document.body).backgroundColor") != light)
    }
    #expect(
      browser.requests.allSatisfy { $0.hasPrefix("http://\(place)/") || $0.hasPrefix("data:") },
      "\(browser.requests)")
    #expect(browser.requests.contains("http://\(place)/tail"))
    // What is wrong is said in words, with what to do about it.
    try world.redis?.kill()
    _ = try eventually("Redis is missed", within: .seconds(40), every: .milliseconds(200)) {
      try browser.evaluate("document.getElementById('problems').textContent")
    } until: {
      $0.contains("Redis does not answer") && $0.contains("Check that it runs")
    }
    sidecar.kill()
    _ = try eventually("the sidecar is missed", within: .seconds(40), every: .milliseconds(200)) {
      try browser.evaluate("document.getElementById('state').textContent")
    } until: {
      $0 == "No answer"
    }
  }

  /// Reads and changes rows while `body` runs.
  private static func whileLoaded(_ world: World, _ sidecar: Sidecar, _ body: () throws -> Void) throws {
    let isOver = Mutex(false)
    var result = Result { () throws -> Void in }
    withThreads(1) { _ in
      guard let client = try? sidecar.client() else { return }
      _ = try? client.call("CLIENT", "SETINFO", "LIB-NAME", "redis-py")
      var round = 0
      while !isOver.withLock({ $0 }) {
        round += 1
        for id in 1...5 { _ = try? client.call("GET", world.key("user:\(id)")) }
        if round % 200 == 0 {
          _ = try? world.psql("UPDATE users SET name = '\(round)' WHERE id = \(round / 200 % 5 + 1)")
        }
      }
    } while: {
      result = Result { try body() }
      isOver.withLock { $0 = true }
    }
    try result.get()
  }
}
