//! Calendar dates from the system's clock, without a time-zone database: all of them are UTC.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A moment in the proleptic Gregorian calendar, UTC. Moments before 1970 count as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
    pub nanosecond: u32,
    /// Days since 1970-01-01, a Thursday.
    days: u64,
}

impl Civil {
    pub fn from_system(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let days = since.as_secs() / SECONDS_PER_DAY;
        let second_of_day = since.as_secs() % SECONDS_PER_DAY;
        let (year, month, day) = date_of(days);
        Self {
            year,
            month,
            day,
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            nanosecond: since.subsec_nanos(),
            days,
        }
    }

    /// Appends `2026-11-21T04:01:38.145004Z`, the layout of etcd's log lines.
    pub(super) fn write_log_time(&self, out: &mut String) {
        let _ = write!(
            out,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.nanosecond / 1000,
        );
    }
}

/// The date of the `days`-th day after 1970-01-01.
///
/// Counts from 0000-03-01, so that a leap day is the last day of its year: a 400-year era has 146097
/// days, and 1970-01-01 is day 719468 of that count.
fn date_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March is month 0 here; the lengths 31,30,31,30,31 repeat every 153 days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// The text of an HTTP `Date` header, RFC 9110 §5.6.7: `Sat, 21 Nov 2026 04:01:41 GMT`.
pub fn http_date(time: SystemTime) -> String {
    let civil = Civil::from_system(time);
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        WEEKDAYS[(civil.days % 7) as usize],
        civil.day,
        MONTHS[(civil.month - 1) as usize],
        civil.year,
        civil.hour,
        civil.minute,
        civil.second,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanoseconds: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanoseconds)
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        let cases = [
            (0, (1970, 1, 1)),
            (951_782_400, (2000, 2, 29)),
            (951_868_800, (2000, 3, 1)),
            (1_709_164_800, (2024, 2, 29)),
            (1_735_603_200, (2024, 12, 31)),
            (4_107_542_400, (2100, 3, 1)),
        ];
        for (seconds, expected) in cases {
            let civil = Civil::from_system(at(seconds, 0));
            assert_eq!((civil.year, civil.month, civil.day), expected, "{seconds}");
        }
    }

    #[test]
    fn log_times_have_microseconds() {
        let mut text = String::new();
        Civil::from_system(at(1_795_233_698, 145_004_999)).write_log_time(&mut text);
        assert_eq!(text, "2026-11-21T04:01:38.145004Z");
    }

    #[test]
    fn http_dates_name_the_weekday() {
        assert_eq!(
            http_date(at(1_795_233_701, 0)),
            "Sat, 21 Nov 2026 04:01:41 GMT"
        );
        assert_eq!(
            http_date(at(784_111_777, 0)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }

    #[test]
    fn a_clock_before_1970_is_not_an_error() {
        assert_eq!(
            Civil::from_system(UNIX_EPOCH - Duration::from_secs(5)).year,
            1970
        );
    }
}
