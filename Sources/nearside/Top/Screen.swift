import Glibc

/// The whole of a terminal, for as long as it is shown there; what stood on it before comes back.
///
/// Sequences: ECMA-48, and xterm's "Control Sequences" for the alternate screen (1049) and the cursor (25).
struct Screen: ~Copyable {
  private let isColoured: Bool
  private var isShown = false

  /// The terminal is not touched before `enter`.
  init(isColoured: Bool) { self.isColoured = isColoured }

  deinit { if isShown { _ = Self.write(Self.leaving) } }

  private static let entering = "\u{1B}[?1049h\u{1B}[?25l\u{1B}[2J"
  private static let leaving = "\u{1B}[?25h\u{1B}[?1049l"

  mutating func enter() -> Bool {
    isShown = true
    return Self.write(Self.entering)
  }

  mutating func leave() {
    guard isShown else { return }
    isShown = false
    _ = Self.write(Self.leaving)
  }

  /// Draws from the top, and leaves nothing of what was there. False: nobody looks any more.
  func draw(_ lines: [TopFrame.Line], rows: Int) -> Bool {
    Self.write("\u{1B}[H" + Self.text(lines, rows: rows, isColoured: isColoured) + "\u{1B}[J")
  }

  static func text(_ lines: [TopFrame.Line], rows: Int, isColoured: Bool) -> String {
    lines.prefix(max(1, rows)).map { line in
      let code =
        switch line.style {
        case .plain: ""
        case .heading: "1"
        case .good: "32"
        case .warning: "33"
        case .bad: "31"
        }
      // Nothing is left of what stood there. Not behind the text: after a whole line the cursor stands on its last
      // character, which would go.
      guard isColoured, !code.isEmpty else { return "\u{1B}[K" + line.text }
      return "\u{1B}[K\u{1B}[\(code)m\(line.text)\u{1B}[0m"
    }.joined(separator: "\r\n")
  }

  /// Columns and rows; 80 and 24 if it does not tell. Source: ioctl_tty(2), TIOCGWINSZ.
  static func size() -> (columns: Int, rows: Int) {
    var size = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
      return (80, 24)
    }
    return (Int(size.ws_col), Int(size.ws_row))
  }

  private static func write(_ text: String) -> Bool {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }
}
