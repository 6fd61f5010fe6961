"""nbgrader's settings for this course: copy the folder to where you teach, and start in it."""

c = get_config()  # noqa: F821  (nbgrader provides it)

c.CourseDirectory.course_id = "genot-notebooks"
# A notebook takes one to three minutes; a student's loop may take longer. In seconds.
c.ExecutePreprocessor.timeout = 1200
