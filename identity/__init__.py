"""Who is calling, and what may stand for them?"""
