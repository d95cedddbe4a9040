import Metrics
import NIOCore
import NIOHTTP1

/// One connection to the endpoint. Requests come one at a time: NIO's pipeline handler keeps the next one back until
/// this one is answered.
final class AdminHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let door: AdminDoor
  private let isPrivate: Bool
  private var head: HTTPRequestHead?
  private var body: [UInt8] = []
  private var stream: TailStream?

  /// POST /invalidate takes lists of keys, which are short.
  private static let longestBody = 1024 * 1024
  private static let patience = TimeAmount.seconds(2)
  /// A reload reads files and looks names up.
  private static let longPatience = TimeAmount.seconds(30)

  init(_ door: AdminDoor, isPrivate: Bool) {
    self.door = door
    self.isPrivate = isPrivate
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      self.head = head
      body = []
    case .body(let bytes):
      guard body.count + bytes.readableBytes <= Self.longestBody else {
        write(.text("The body is longer than 1 MiB.", .payloadTooLarge), context, closes: true)
        head = nil
        return
      }
      body += bytes.readableBytesView
    case .end:
      guard let head else { return }
      answer(head, context)
    }
  }

  private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    let source = door.source
    // Browsers say where a page that posts comes from; ours posts nothing, and programs do not say it.
    guard head.method != .POST || !head.headers.contains(name: "Origin") else {
      return write(.text("Web pages may not do this.", .forbidden), context)
    }
    switch AdminRoute(head.method, head.uri, isPrivate: isPrivate) {
    case .refused(let answer): write(answer, context)
    case .page: write(Page.answer, context)
    case .configuration: write(.json(source.configuration), context)
    case .version:
      let build = Build.facts
      let version: JSONText = [
        "schema": 1, "version": .text(source.version), "revision": .text(build.revision),
        "swift": .text(build.swift),
      ]
      write(.json(version), context)
    case .live:
      ask(context, { answer in source.whetherAlive { answer(true) } }) { _ in .text("ok") }
    case .ready(let strict):
      ask(context, source.report) { Self.readiness($0, strict: strict) }
    case .health(let strict):
      ask(context, source.report) { report in
        let health = Health(report)
        let isReady = strict ? health.isStrictlyReady : health.isReady
        return .json(health.json, isReady ? .ok : .serviceUnavailable)
      }
    case .status(let keys):
      let places = door.places
      ask(context, source.report) {
        .json(StatusText.json($0, Health($0), places: places, showsKeys: keys))
      }
    case .look(let key, let showsValue):
      ask(context, { source.look(key, showsValue: showsValue, $0) }) { .json($0.json) }
    case .metrics:
      let exposition = Exposition(accept: head.headers[canonicalForm: "accept"].joined(separator: ","))
      let build = Build.facts
      ask(context, source.report) { report in
        let families = MetricNames.families(report, Health(report), build: build)
        return AdminAnswer(status: .ok, type: exposition.contentType, body: exposition.text(families))
      }
    case .tail(let table): beginStream(table, head, context)
    case .reload:
      ask(context, patience: Self.longPatience, source.reload) { Self.answer($0) }
    case .invalidate:
      guard let order = InvalidationOrder(body: body) else {
        return write(
          .text(
            "The body has a line for each name: key shop:user:42, prefix shop:user:, tag t; or the one line all.",
            .badRequest), context)
      }
      ask(context, patience: Self.longPatience, { source.invalidate(order, $0) }) { answer in
        switch answer {
        case .done(let count): .json(["schema": 1, "removed": .whole(count)])
        case .failed(let sentence): .text(sentence, .serviceUnavailable)
        }
      }
    }
  }

  private static func readiness(_ report: SidecarReport, strict: Bool) -> AdminAnswer {
    let health = Health(report)
    if strict ? health.isStrictlyReady : health.isReady { return .text("ok") }
    let reasons = health.problems.filter { $0.severity == .error }.map(\.what)
    let lines = reasons.isEmpty ? ["The sidecar does not accept connections now."] : reasons
    return .text(lines.joined(separator: "\n"), .serviceUnavailable)
  }

  private static func answer(_ answer: ReloadAnswer) -> AdminAnswer {
    switch answer {
    case .reloaded(let changed, let needRestart):
      .json([
        "schema": 1, "reloaded": true, "changed": .list(changed.map { .text($0) }),
        "needs_restart": .list(needRestart.map { .text($0) }),
      ])
    case .refused(let sentence):
      .json(["schema": 1, "reloaded": false, "error": .text(sentence)], .unprocessableEntity)
    }
  }

  // MARK: Asking

  /// Asks for something that comes from another thread, and answers with what `render` makes of it, or that nobody
  /// answered.
  private func ask<Answer: Sendable>(
    _ context: ChannelHandlerContext, patience: TimeAmount = AdminHandler.patience,
    _ ask: (@escaping @Sendable (Answer) -> Void) -> Void, _ render: @escaping (Answer) -> AdminAnswer
  ) {
    let promise = context.eventLoop.makePromise(of: Answer.self)
    let timeout = context.eventLoop.scheduleTask(in: patience) {
      promise.fail(ChannelError.connectTimeout(patience))
    }
    promise.futureResult.assumeIsolated().whenComplete { result in
      timeout.cancel()
      switch result {
      case .success(let answer): self.write(render(answer), context)
      case .failure: self.write(.silent, context)
      }
    }
    ask { promise.succeed($0) }
  }

  // MARK: Writing

  private func write(_ answer: AdminAnswer, _ context: ChannelHandlerContext, closes: Bool = false) {
    guard let request = head, context.channel.isActive else { return }
    head = nil
    let keepsAlive = request.isKeepAlive && !closes
    var headers = Self.headers(answer.type)
    headers.add(name: "Content-Length", value: String(answer.body.utf8.count))
    for (name, value) in answer.headers { headers.add(name: name, value: value) }
    headers.add(name: "Connection", value: keepsAlive ? "keep-alive" : "close")
    let response = HTTPResponseHead(version: request.version, status: answer.status, headers: headers)
    context.write(wrapOutboundOut(.head(response)), promise: nil)
    if request.method != .HEAD {
      context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: answer.body)))), promise: nil)
    }
    let end = context.writeAndFlush(wrapOutboundOut(.end(nil)))
    if !keepsAlive { end.assumeIsolated().whenComplete { _ in context.close(promise: nil) } }
  }

  private static func headers(_ type: String) -> HTTPHeaders {
    [
      "Content-Type": type, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
      "Content-Security-Policy": Page.policy, "Referrer-Policy": "no-referrer",
    ]
  }

  // MARK: The stream of invalidations

  private func beginStream(_ table: String?, _ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    guard head.method == .GET else { return write(.text("This page takes GET.", .methodNotAllowed), context) }
    let stream = TailStream(table: table, showsKeys: isPrivate) { text in
      let part = HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(string: text)))
      context.writeAndFlush(self.wrapOutboundOut(part), promise: nil)
      return context.channel.isWritable
    }
    guard door.hub.add(stream) else {
      return write(
        .text("Too many watch already; try again when one of them has ended.", .serviceUnavailable), context)
    }
    var headers = Self.headers("text/event-stream")
    headers.add(name: "Connection", value: "close")
    let response = HTTPResponseHead(version: head.version, status: .ok, headers: headers)
    context.writeAndFlush(wrapOutboundOut(.head(response)), promise: nil)
    self.stream = stream
    self.head = nil
    stream.begin()
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { stream?.goOn() }
    context.fireChannelWritabilityChanged()
  }

  func channelInactive(context: ChannelHandlerContext) {
    if let stream { door.hub.remove(stream) }
    stream = nil
    head = nil
    context.fireChannelInactive()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    // Nobody has said anything for far longer than any answer takes, and nothing is being streamed.
    if event is IdleStateHandler.IdleStateEvent, stream == nil {
      context.close(promise: nil)
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
