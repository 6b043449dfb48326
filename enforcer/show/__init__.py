"""What the API tells, as tables for people; the words and numbers are the API's."""
