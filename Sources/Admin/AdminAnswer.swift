import Metrics
import NIOCore
import NIOHTTP1

/// One answer of the endpoint.
struct AdminAnswer: Sendable, Equatable {
  var status: HTTPResponseStatus
  var type: String
  var body: String
  var headers: [String: String] = [:]

  static func json(_ value: JSONText, _ status: HTTPResponseStatus = .ok) -> AdminAnswer {
    AdminAnswer(status: status, type: "application/json", body: value.description + "\n")
  }

  /// Sentences, one a line.
  static func text(_ text: String, _ status: HTTPResponseStatus = .ok) -> AdminAnswer {
    AdminAnswer(status: status, type: "text/plain; charset=utf-8", body: text + "\n")
  }

  static let silent = text("the event loop has not answered in time", .serviceUnavailable)
}

/// What a request wants, told by its first line and nothing else.
enum AdminRoute: Equatable {
  case page, metrics, live, configuration, version, tail(table: String?)
  case ready(strict: Bool), health(strict: Bool), status(keys: Bool)
  /// A web page cannot ask for the value, since that is a POST.
  case look(key: [UInt8], showsValue: Bool)
  case reload, invalidate
  /// Answered at once.
  case refused(AdminAnswer)

  /// - Parameter isPrivate: whether the request came through the Unix socket.
  init(_ method: HTTPMethod, _ uri: String, isPrivate: Bool) {
    let halves = uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let query = halves.count > 1 ? Self.query(halves[1]) : [:]
    let isStrict = query["strict"].map { $0 != "0" && $0 != "false" } ?? false
    let route: AdminRoute
    switch halves.first ?? "" {
    case "/", "/index.html": route = .page
    case "/metrics": route = .metrics
    case "/livez": route = .live
    case "/readyz": route = .ready(strict: isStrict)
    case "/healthz": route = .health(strict: isStrict)
    case "/status": route = .status(keys: isPrivate && query["keys"] != nil)
    case "/config": route = .configuration
    case "/version": route = .version
    case "/get":
      guard let key = halves.count > 1 ? Self.value(of: "key", in: halves[1]) : nil, !key.isEmpty else {
        self = .refused(.text("Name a key: /get?key=shop%3Auser%3A42.", .badRequest))
        return
      }
      route = .look(key: key, showsValue: method == .POST)
    case "/tail": route = .tail(table: query["table"].flatMap { $0.isEmpty ? nil : $0 })
    case "/reload": route = .reload
    case "/invalidate": route = .invalidate
    default:
      self = .refused(
        .text(
          "There is no such page here. There are /, /metrics, /livez, /readyz, /healthz, /status, /config, /version, "
            + "/get?key=, /tail, POST /reload and POST /invalidate.", .notFound))
      return
    }
    let acts = route == .reload || route == .invalidate
    var isLook = false
    if case .look = route { isLook = true }
    if !isPrivate, acts || isLook {
      self = .refused(
        .text("This address is read-only and shows no keys; use the Unix socket for that.", .forbidden))
    } else if acts ? method != .POST : method != .GET && method != .HEAD && !(isLook && method == .POST) {
      var answer = AdminAnswer.text("This page takes \(acts ? "POST" : "GET").", .methodNotAllowed)
      answer.headers["Allow"] = acts ? "POST" : "GET, HEAD"
      self = .refused(answer)
    } else {
      self = route
    }
  }

  /// The parameters by name; `%` and `+` stand for what they stand for in a form.
  private static func query(_ text: Substring) -> [String: String] {
    var all: [String: String] = [:]
    for (name, value) in parts(text) { all[name] = String(decoding: value, as: UTF8.self) }
    return all
  }

  /// The bytes of the last parameter of this name; nil: there is none.
  private static func value(of name: String, in text: Substring) -> [UInt8]? {
    parts(text).last { $0.name == name }?.value
  }

  private static func parts(_ text: Substring) -> [(name: String, value: [UInt8])] {
    text.split(separator: "&").map { part in
      let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return (String(decoding: decoded(halves[0]), as: UTF8.self), halves.count > 1 ? decoded(halves[1]) : [])
    }
  }

  private static func decoded(_ text: Substring) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "+") {
        bytes.append(UInt8(ascii: " "))
      } else if byte == UInt8(ascii: "%"), rest.count >= 2,
        let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      {
        bytes.append(value)
        rest = rest.dropFirst(2)
      } else {
        bytes.append(byte)
      }
    }
    return bytes
  }
}
