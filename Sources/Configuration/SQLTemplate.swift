/// One SQL statement of the configuration, with named parameters as in
/// `SELECT name FROM users WHERE id = :id`.
///
/// A parameter is a colon and a name outside quotes, dollar quotes and comments; `::` is PostgreSQL's cast. A
/// slice such as `a[1:n]` needs a space before a name: `a[1: n]`.
public struct SQLTemplate: Hashable, Sendable, CustomStringConvertible {
  public enum Part: Hashable, Sendable {
    case text(String)
    /// Index in `names`.
    case parameter(Int)
  }

  /// In the order of the statement, without a final semicolon.
  public var parts: [Part]
  /// Each name once, in the order in which they first stand: `names[0]` is `$1`.
  public var names: [String]
  /// Where each name first stands, with its colon.
  public var places: [SourcePlace]
  public var place: SourcePlace

  public init(parts: [Part], names: [String], places: [SourcePlace], place: SourcePlace) {
    self.parts = parts
    self.names = names
    self.places = places
    self.place = place
  }

  /// As PostgreSQL prepares it, with `$1` for `names[0]`.
  public var text: String { rendered { "$\($0 + 1)" } }

  /// The statement with what `parameter` gives in place of each parameter, by its index in `names`.
  public func rendered(_ parameter: (Int) -> String) -> String {
    var out = ""
    for part in parts {
      switch part {
      case .text(let text): out += text
      case .parameter(let index): out += parameter(index)
      }
    }
    return out
  }

  public var description: String { text }
}
