//! A generated access log: the same bytes at every run, at memory speed.

/// How many readers share the generated log.
pub(crate) const PARTS: u16 = 4;

const TEMPLATES: usize = 512;
const PATHS: [&str; 8] = [
    "/",
    "/login",
    "/api/v1/orders",
    "/api/v1/orders/9917/items?expand=prices",
    "/static/app.3f9d1c.js",
    "/images/products/large/10442.webp",
    "/search?q=double+buffer&page=2",
    "/healthz",
];
const AGENTS: [&str; 4] = [
    "curl/8.9.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15",
    "kube-probe/1.33",
];

/// Generates one reader's share of the access log: the same bytes at every run, at memory speed.
///
/// A line is one of a few hundred formatted templates, with its time and request id overwritten.
pub(crate) struct Generator {
    templates: Vec<Template>,
    random: SplitMix,
    next_id: u64,
    end_id: u64,
    /// `next_id` in digits.
    id: [u8; 10],
    /// The time of `next_id`, at a thousand lines a second: `hh:mm:ss`.
    clock: [u8; 8],
}

/// A formatted line, and the offsets of its changing parts.
struct Template {
    line: Vec<u8>,
    clock_at: usize,
    id_at: usize,
}

impl Generator {
    /// Generates part `part` of a log of `lines` lines.
    pub(crate) fn new(part: u16, lines: u64) -> Self {
        let bound = |part: u16| lines * u64::from(part) / u64::from(PARTS);
        let mut random = SplitMix(u64::from(part) + 1);
        let templates = (0..TEMPLATES).map(|_| Template::new(&mut random)).collect();
        let mut generator = Self {
            templates,
            random,
            next_id: bound(part),
            end_id: bound(part + 1),
            id: [b'0'; 10],
            clock: *b"00:00:00",
        };
        write_digits(&mut generator.id, generator.next_id);
        generator.set_clock();
        generator
    }

    /// Returns the next line with its newline, or `None` at the end.
    pub(crate) fn next_line(&mut self) -> Option<&[u8]> {
        if self.next_id == self.end_id {
            return None;
        }
        if self.next_id % 1000 == 0 {
            self.set_clock();
        }
        let template = &mut self.templates[self.random.below(TEMPLATES)];
        template.line[template.clock_at..][..8].copy_from_slice(&self.clock);
        template.line[template.id_at..][..10].copy_from_slice(&self.id);
        self.next_id += 1;
        increment_digits(&mut self.id);
        Some(&template.line)
    }

    fn set_clock(&mut self) {
        let second = self.next_id / 1000;
        for (field, value) in [second / 3600 % 24, second / 60 % 60, second % 60].into_iter().enumerate() {
            write_digits(&mut self.clock[3 * field..][..2], value);
        }
    }
}

impl Template {
    fn new(random: &mut SplitMix) -> Self {
        let (host, path, agent) =
            (random.below(65_536), random.below(PATHS.len()), random.below(AGENTS.len()));
        let (status, size) = ([200, 200, 200, 304, 404, 500][random.below(6)], random.below(100_000));
        let mut line = format!("10.20.{}.{} - - [12/Mar/2026:", host / 256, host % 256);
        let clock_at = line.len();
        line += &format!("00:00:00 +0000] \"GET {} HTTP/1.1\" {status} {size}", PATHS[path]);
        line += &format!(" \"-\" \"{}\" id=", AGENTS[agent]);
        let id_at = line.len();
        line += "0000000000\n";
        Self { line: line.into_bytes(), clock_at, id_at }
    }
}

/// Writes the last digits of `value`, as many as `room` holds.
fn write_digits(room: &mut [u8], mut value: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Adds one to a number in digits.
fn increment_digits(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

/// A small random number generator with a fixed sequence (splitmix64).
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
